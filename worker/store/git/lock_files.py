"""Tells which lock files in a repository have no owner any more, and so may be removed.

A lock file says nothing about who made it. Three things do:

- Ours is a second name of a temporary file of ours (`refs`). Whoever holds the flock alone knows that
  no process of ours lives.
- Below `refs/confkeep/` a lock guards nothing: those refs are made and deleted, and never moved.
- Any other lock may be that of a git that works beside us, from cron for example. It has no owner any
  more when it is two seconds old, far longer than git needs, and no git that could have made it is
  seen in the repository. A git that is only paused is seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.store.git import durable, flock

#: Seconds after which a lock may be taken for one that a dead program left. Git holds those of refs
#: for milliseconds, also where it cannot be seen from here: on another machine, in another container.
LEAST_AGE_S: Final = 2.0
_POLL_S: Final = 0.05

#: Refs that are never moved.
_OWN_REFS: Final = "refs/confkeep/"

#: Where git and libgit2 lock: each file of a repository by its own name with `.lock` behind it.
_PLACES: Final = (
    "*.lock",
    "packed-refs.new",
    "objects/*.lock",
    "objects/info/*.lock",
    "objects/info/commit-graphs/*.lock",
    "objects/pack/*.lock",
    "objects/pack/multi-pack-index.d/*.lock",
)
_TREES: Final = ("refs", "logs")

#: Of git's programs those that only read, and may live as long as a server.
_READERS: Final = frozenset({b"cat-file", b"upload-pack", b"daemon", b"http-backend"})


def ownerless(path: Path) -> list[Path]:
    """The lock files that dead programs left. Only for who holds the flock alone.

    Waits until a lock that would keep us from moving or deleting a ref is gone, or old enough to be
    judged: at most `LEAST_AGE_S`.
    """
    mine = {_identity(path / name) for name in os.listdir(path) if _is_ours(name)}
    found, others = [], []
    for lock in _locks(path):
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
    """Whether a git is seen at work in the repository, other than one that only reads."""
    return any(True for _user in _gits_in(path))


def _locks(path: Path) -> Iterator[Path]:
    for pattern in _PLACES:
        yield from sorted(path.glob(pattern))
    for tree in _TREES:
        for folder, _folders, names in os.walk(path / tree):
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".lock"))


def _is_ours(name: str) -> bool:
    return name.startswith(f"tmp_{durable.TEMPORARY_MARK}")


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells one file, by whichever of its names; None if it went meanwhile."""
    try:
        found = os.lstat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _guards_refs(path: Path, lock: Path) -> bool:
    place = lock.relative_to(path).as_posix()
    return place.startswith("refs/") or place == "packed-refs.lock"


def _is_young(path: Path, lock: Path) -> bool:
    """Whether a lock is there and too young to judge."""
    # By the clock of the file system, which may be another machine's.
    mark = path / flock.FILE_NAME
    try:
        os.utime(mark)
        # A clock that was set back leaves locks of the future.
        return abs(os.stat(mark).st_mtime - os.lstat(lock).st_mtime) < LEAST_AGE_S
    except FileNotFoundError:
        return False


def _is_left(path: Path, lock: Path) -> bool:
    # In this order: a program that we do not see any more can neither remove the lock nor make it
    # again, as long as the name is taken.
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
            # Another user's: nobody can tell where it works.
            yield user
        except (FileNotFoundError, ProcessLookupError):
            continue


def _is_in(process: Path, path: Path, words: list[bytes]) -> bool:
    inside, cwd = os.path.realpath(path), os.readlink(process / "cwd")
    places = [cwd, *(os.readlink(file) for file in (process / "fd").iterdir())]
    # Or it was told where the repository is, by a word or a variable.
    for word in (*words, *(process / "environ").read_bytes().split(b"\0")):
        if os.fsencode(path.name) in word:
            place = os.path.join(cwd, os.fsdecode(word.rpartition(b"=")[2]))
            places.append(os.path.realpath(place))
    return any(place == inside or place.startswith(f"{inside}/") for place in places)
