"""Git itself as the judge of what the project writes."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(repository: Path, *arguments: str) -> str:
    """What a git command prints; its failure is the test's."""
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, check=False
    )
    assert done.returncode == 0, (arguments, done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode("utf-8", "surrogateescape")


def fsck_all(store: Path) -> None:
    """Every repository in a store passes git's strictest check."""
    for repository in sorted(store.glob("*.git")):
        git(repository, "fsck", "--strict", "--no-dangling")


def backup_ids(repository: Path) -> list[str]:
    """The ids in the commits' headers along `main`, oldest first."""
    raw = git(repository, "log", "--reverse", "--first-parent", "--format=raw", "refs/heads/main")
    prefix = "backup-id "
    return [line[len(prefix) :] for line in raw.splitlines() if line.startswith(prefix)]
