"""Real git as the judge of what the tests write; it knows nothing of the code under test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Neither the machine's nor the user's configuration may decide a test.
GIT_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Plain Git",
    "GIT_AUTHOR_EMAIL": "plain@example.net",
    "GIT_COMMITTER_NAME": "Plain Git",
    "GIT_COMMITTER_EMAIL": "plain@example.net",
    "LC_ALL": "C",
}


def git(path: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """What git prints for a repository; fails the test when git does."""
    done = subprocess.run(
        ["git", "-C", str(path), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=GIT_ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout


def log_of_device(path: Path, device_id: str, ref: str = "main") -> list[str]:
    """The ids that `git log` lists for a device."""
    return git(path, "log", "--format=%H", ref, "--", device_id).decode().split()


def backup_ids(path: Path) -> list[str]:
    """The ids in the commits' headers along `main`, oldest first."""
    raw = git(path, "log", "--reverse", "--first-parent", "--format=raw", "refs/heads/main")
    prefix = b"backup-id "
    return [line[len(prefix) :].decode() for line in raw.splitlines() if line.startswith(prefix)]


def assert_sound(path: Path) -> None:
    """`git fsck --strict` finds nothing at all in the repository."""
    done = subprocess.run(
        ["git", "-C", str(path), "fsck", "--strict", "--full", "--no-dangling", "--no-progress"],
        capture_output=True,
        env=GIT_ENVIRONMENT,
        check=False,
    )
    said = [
        line
        for line in (done.stdout + done.stderr).decode().splitlines()
        if not line.startswith("notice:")
    ]
    assert (done.returncode, said) == (0, []), path


def assert_all_sound(folder: Path) -> None:
    """Every repository directly below `folder` is sound."""
    for path in sorted(folder.glob("*.git")):
        assert_sound(path)


@contextmanager
def judged(folder: Path) -> Iterator[Path]:
    """A folder for repositories; each is judged when the block ends well."""
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    assert_all_sound(folder)
