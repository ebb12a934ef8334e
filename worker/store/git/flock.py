"""The repository's flock: tells whether a writer is alive.

Writers hold it shared for as long as they write. Recovery takes it exclusively: that proves that no
writer lives, so every leftover lock and temporary file has a dead owner. A time-out could not prove
that: a paused owner would go on later, and use another's lock file. The kernel releases the lock
when a process ends, however it ends.

Maintenance has a lock of its own: it may take minutes, and recovery must not wait for it. It takes
no lock file and leaves no temporary file that recovery could mistake for a writer's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confkeep import modes
from confkeep.errors import RepositoryBusy

#: The file in the repository that is locked. Its content means nothing.
FILE_NAME: Final = "confkeep.flock"

#: The file that maintenance locks.
MAINTENANCE_FILE_NAME: Final = "confkeep.maintenance-flock"

#: Seconds to wait for another process's recovery.
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.005


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock shared with other writers of the repository at `path`.

    May be taken again within itself.

    Raises:
        RepositoryBusy: another process was at recovery for more than 10 seconds.
        OSError: the file system refused.
    """
    with _opened(path) as descriptor:
        if not _wait(descriptor, fcntl.LOCK_SH, _WAIT_S):
            raise RepositoryBusy(f"{path.name} is being recovered by another process")
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Try to hold the lock alone, without waiting; yields whether it does: no writer lives then."""
    with _opened(path) as descriptor:
        yield _try(descriptor, fcntl.LOCK_EX)


@contextmanager
def maintenance(path: Path) -> Iterator[int | None]:
    """Try to be the only one that repacks, prunes or rewrites packs, without waiting.

    Yields the descriptor that holds the lock, for every git that is started to inherit: then the
    lock is held until git ends, even if the process that started it is killed. Yields None if
    another process holds the lock.
    """
    with _opened(path, MAINTENANCE_FILE_NAME) as descriptor:
        yield descriptor if _try(descriptor, fcntl.LOCK_EX) else None


def prepare_maintenance(path: Path) -> None:
    """Create the maintenance lock's file, which `no_maintenance` does not create."""
    if not (path / MAINTENANCE_FILE_NAME).exists():
        with _opened(path, MAINTENANCE_FILE_NAME):
            pass


@contextmanager
def no_maintenance(path: Path, *, wait_s: float = _WAIT_S) -> Iterator[bool]:
    """Keep maintenance away, shared with other readers that need the packs to stay.

    Yields False if maintenance did not end within `wait_s` seconds. Creates no file: a repository
    without one, which confkeep has not written yet, was never repacked by it. Who may not lock goes on
    without the lock.
    """
    try:
        descriptor = os.open(path / MAINTENANCE_FILE_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield True
        return
    try:
        yield _wait(descriptor, fcntl.LOCK_SH, wait_s)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, wait_s: float = _WAIT_S) -> Iterator[int]:
    """Hold both locks alone; waits for living writers and for maintenance to end.

    For code that removes packs by other rules than a repack: if both ran at once, each might remove
    what the other one relies on. Yields the descriptor that holds the maintenance lock, for git to
    inherit, as `maintenance` does.

    Raises:
        RepositoryBusy: one lived for all of `wait_s` seconds.
        OSError: the file system refused.
    """
    deadline = time.monotonic() + wait_s
    with _opened(path, MAINTENANCE_FILE_NAME) as maintained, _opened(path) as written:
        # In the order in which a repack takes them.
        for descriptor in (maintained, written):
            if not _wait(descriptor, fcntl.LOCK_EX, deadline - time.monotonic()):
                raise RepositoryBusy(f"{path.name} is being written by another process")
        yield maintained


@contextmanager
def _opened(path: Path, name: str = FILE_NAME) -> Iterator[int]:
    descriptor = modes.create(path / name, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, kind: int, wait_s: float) -> bool:
    """Try until the lock is held; False if it is not after so many seconds."""
    deadline = time.monotonic() + wait_s
    while not _try(descriptor, kind):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
