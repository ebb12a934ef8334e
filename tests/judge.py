"""Real git, and dulwich, as the judges of what the tests write; they know nothing of our code."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

#: What `contents` says of repositories that all judges read.
_READABLE: set[bytes] = set()
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


def contents(path: Path) -> bytes:
    """The same for repositories that hold the same files: all judges say the same of them.

    Packs are named at random, so they count by what they hold, unless a multi-pack-index names them too.
    The history index is no part of what git reads.
    """
    named = (path / "objects" / "pack" / "multi-pack-index").exists()
    files: dict[str, list[tuple[str, str, bytes]]] = {}
    for folder, folders, names in os.walk(path):
        place = os.path.relpath(folder, path)
        for name in (*folders, *names):
            file = Path(folder, name)
            if file.is_symlink():
                held = "link", os.fsencode(os.readlink(file))
            else:
                held = ("folder", b"") if file.is_dir() else ("file", _digest(file))
            stem, dot, suffix = name.partition(".")
            if not name.startswith("confkeep.index"):
                files.setdefault(f"{place}/{stem}", []).append((dot + suffix, *held))
    whole = [
        (
            "objects/pack/pack-" if place.startswith("objects/pack/pack-") and not named else place,
            parts,
        )
        for place, parts in ((place, sorted(parts)) for place, parts in files.items())
    ]
    return hashlib.blake2b(repr(sorted(whole)).encode()).digest()


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()


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


def assert_readable(path: Path) -> None:
    """All judges read the whole repository: `git fsck --strict`, `git verify-pack` of its packs,
    a `git clone` that gets every object anew, and dulwich. Costs 30 ms for a small one, and next to
    nothing where they read the same before."""
    held = contents(path)
    if held in _READABLE:
        return
    assert_sound(path)
    # No reader looks at a pack without an idx.
    idxs = (path / "objects" / "pack").glob("*.idx")
    packs = sorted(str(pack) for idx in idxs if (pack := idx.with_suffix(".pack")).exists())
    if packs:
        # Outside of the repository: within, it opens all packs for each of them.
        git(Path("/"), "verify-pack", *packs)
    refs = git(path, "for-each-ref", "--format=%(objectname) %(refname)").decode().splitlines()
    with tempfile.TemporaryDirectory(prefix="confkeep-clone-") as folder:
        # To search for deltas would be most of the work, and prove nothing.
        sender = "--upload-pack=git -c pack.window=0 upload-pack"
        git(path, "clone", "--quiet", "--no-local", "--mirror", sender, str(path), folder)
        copied = git(Path(folder), "for-each-ref", "--format=%(objectname) %(refname)")
        assert copied.decode().splitlines() == refs, path
    _read_by_dulwich(path, [line.split()[0] for line in refs])
    _READABLE.add(held)


def _read_by_dulwich(path: Path, tips: list[str]) -> None:
    # Processes that the tests trace import this module too, and let nobody judge.
    from dulwich.objects import Commit, Tag, Tree
    from dulwich.repo import Repo

    with closing(Repo(str(path))) as repository:
        # Asked for an object, dulwich looks into one pack after the other.
        packs = {id_: pack for pack in repository.object_store.packs for id_ in pack}
        waiting: list[Any] = [tip.encode() for tip in tips]
        seen = set(waiting)
        while waiting:
            id_ = waiting.pop()
            found = packs.get(id_, repository.object_store)[id_]
            # What dulwich checks for itself, and that the bytes have that hash.
            found.check()
            assert found.id == id_, path
            if isinstance(found, Commit):
                below = [found.tree, *found.parents]
            elif isinstance(found, Tree):
                below = [entry.sha for entry in found.iteritems()]
            else:
                below = [found.object[1]] if isinstance(found, Tag) else []
            waiting += {id_ for id_ in below if id_ not in seen}
            seen.update(below)


def assert_all_readable(folder: Path) -> None:
    """Every repository directly below `folder` is read by all judges."""
    for path in sorted(folder.glob("*.git")):
        assert_readable(path)


def assert_all_sound(folder: Path) -> None:
    """Every repository directly below `folder` is sound."""
    for path in sorted(folder.glob("*.git")):
        assert_sound(path)


@contextmanager
def judged(folder: Path, *, all_judges: bool = True) -> Iterator[Path]:
    """A folder for repositories; each is judged when the block ends well.

    Args:
        all_judges: by git and dulwich in every way; else by `git fsck` alone, at a tenth of the cost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    (assert_all_readable if all_judges else assert_all_sound)(folder)
