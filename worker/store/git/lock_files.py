"""Tells which lock files in a repository have a dead owner, so that they may be removed.

A lock file does not say who made it. Three rules tell:

- Our locks are hard links to temporary files of ours (`refs`). Whoever holds the flock alone knows
  that no process of ours lives.
- A lock below `refs/confkeep/` guards nothing: those refs are created and deleted, but never moved.
- Any other lock may belong to a git that runs at the same time, from cron for example. Its owner is
  dead if it is two seconds old, far longer than git needs, and we see no git in the repository that
  could have made it. A paused git is seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from worker.store.git import durable, flock

#: Seconds after which a lock may be judged to be left by a dead program. Git holds locks of refs
#: for milliseconds, also where we cannot see it: on another machine, or in another container.
LEAST_AGE_S: Final = 2.0
_POLL_S: Final = 0.05

#: The folder of refs that never move.
_OWN_REFS: Final = "refs/confkeep/"

#: Where git and libgit2 put locks: the name of the locked file plus `.lock`, or `packed-refs.new`.
_PLACES: Final = (
    "",
    "objects",
    "objects/info",
    "objects/info/commit-graphs",
    "objects/pack",
    "objects/pack/multi-pack-index.d",
)
_KINDS: Final = (".lock", "packed-refs.new")
_TREES: Final = ("refs", "logs")

#: The git programs that only read, and may live as long as a server.
_READERS: Final = frozenset({b"cat-file", b"upload-pack", b"daemon", b"http-backend"})


def ownerless(path: Path) -> list[Path]:
    """The lock files that dead programs left. Only for callers that hold the flock alone.

    Waits at most `LEAST_AGE_S` until locks that would keep us from moving or deleting a ref are
    gone or old enough to be judged.
    """
    locks = list(_locks(path))
    if not locks:
        return []
    mine = {_identity(path / name) for name in os.listdir(path) if _is_ours(name)}
    found, others = [], []
    for lock in locks:
        place = lock.relative_to(path).as_posix()
        if place.startswith(_OWN_REFS) or _identity(lock) in mine:
            found.append(lock)
        else:
            others.append(lock)
    deadline = time.monotonic() + LEAST_AGE_S
    while any(_guards_refs(path, lock) and _is_young(path, lock) for lock in others):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return found + [lock for lock in others if _is_left(path, lock)]


def is_used_by_git(path: Path) -> bool:
    """Whether we see a git in the repository, other than one that only reads."""
    return any(True for _user in _gits_in(path))


def _locks(path: Path) -> Iterator[Path]:
    for place in _PLACES:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            # Hardly ever is there a lock, and a `Path` costs as much as the listing.
            names = [name for name in os.listdir(f"{path}/{place}") if name.endswith(_KINDS)]
            yield from (path / place / name for name in sorted(names))
    for tree in _TREES:
        for folder, _folders, names in os.walk(path / tree):
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".lock"))


def _is_ours(name: str) -> bool:
    return name.startswith(f"tmp_{durable.TEMPORARY_MARK}")


def _identity(file: Path) -> tuple[int, int] | None:
    """Identifies a file, whatever its name; None if it was removed meanwhile."""
    try:
        found = os.lstat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _guards_refs(path: Path, lock: Path) -> bool:
    place = lock.relative_to(path).as_posix()
    return place.startswith("refs/") or place == "packed-refs.lock"


def _is_young(path: Path, lock: Path) -> bool:
    """Whether a lock exists that is too young to judge."""
    # By the clock of the file system, which may be on another machine.
    mark = path / flock.FILE_NAME
    try:
        os.utime(mark)
        # If a clock was set back, locks have times in the future.
        return abs(os.stat(mark).st_mtime - os.lstat(lock).st_mtime) < LEAST_AGE_S
    except FileNotFoundError:
        return False


def _is_left(path: Path, lock: Path) -> bool:
    # In this order: a program that has ended when we look for gits can neither remove its lock nor
    # make it again while the name is taken.
    try:
        found = os.lstat(lock)
    except FileNotFoundError:
        return False
    if _is_young(path, lock):
        return False
    if any(user == found.st_uid for user in _gits_in(path)):
        return False
    return _identity(lock) == (found.st_dev, found.st_ino)


def _gits_in(path: Path) -> Iterator[int]:
    """The users of all gits on this machine that work in the repository, or may do so."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        process = Path("/proc", name)
        try:
            if not (process / "comm").read_text("utf-8", "replace").startswith("git"):
                continue
            words = (process / "cmdline").read_bytes().split(b"\0")
            if not _READERS.isdisjoint(words):
                continue
            user = os.stat(process).st_uid
        except (FileNotFoundError, ProcessLookupError):
            continue
        try:
            if _is_in(process, path, words):
                yield user
        except PermissionError:
            # Another user's process: we cannot tell where it works.
            yield user
        except (FileNotFoundError, ProcessLookupError):
            continue


def _is_in(process: Path, path: Path, words: list[bytes]) -> bool:
    inside, cwd = os.path.realpath(path), os.readlink(process / "cwd")
    places = [cwd, *(os.readlink(file) for file in (process / "fd").iterdir())]
    # Or an argument or a variable told it where the repository is.
    for word in (*words, *(process / "environ").read_bytes().split(b"\0")):
        if os.fsencode(path.name) in word:
            place = os.path.join(cwd, os.fsdecode(word.rpartition(b"=")[2]))
            places.append(os.path.realpath(place))
    return any(place == inside or place.startswith(f"{inside}/") for place in places)
