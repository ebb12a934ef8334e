"""The repository's flock: the proof of who is alive.

Whoever writes holds it shared for as long as it writes. Recovery wants it exclusive: getting it
proves that no writer lives, so every leftover lock and temporary file has a dead owner. A time-out
could not prove that: the owner may only be paused, and would go on with another's lock file.
The kernel gives the lock back when a process ends, however it ends.

Maintenance has a lock of its own, since it may take minutes and recovery must not wait for it: it
takes no lock file and leaves no temporary file that recovery could mistake for a writer's.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from confkeep import modes
from confkeep.errors import RepositoryBusy

#: The file in the repository that is locked. Its content says nothing.
FILE_NAME: Final = "confkeep.flock"

#: That of maintenance.
MAINTENANCE_FILE_NAME: Final = "confkeep.maintenance-flock"

#: Wait so many seconds for another process's recovery.
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.005


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock as one of any number of writers of the repository at `path`.

    May be taken again within itself.

    Raises:
        RepositoryBusy: another process was at recovery for more than 10 seconds.
        OSError: the file system refused.
    """
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not _try(descriptor, fcntl.LOCK_SH):
            if time.monotonic() >= deadline:
                raise RepositoryBusy(f"{path.name} is being recovered by another process")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Try to hold the lock alone, without waiting; gives whether no writer lives."""
    descriptor = _open(path)
    try:
        yield _try(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@contextmanager
def maintenance(path: Path) -> Iterator[int | None]:
    """Try to be the only one that repacks, prunes or rewrites packs, without waiting.

    Gives the descriptor that holds the lock, to be inherited by every git that is started: then the
    lock is held for as long as git runs, also when the process that started it was killed. None:
    another process is at it.
    """
    descriptor = _open(path, MAINTENANCE_FILE_NAME)
    try:
        yield descriptor if _try(descriptor, fcntl.LOCK_EX) else None
    finally:
        os.close(descriptor)


def prepare_maintenance(path: Path) -> None:
    """Create the file of the maintenance lock, for those who create none."""
    os.close(_open(path, MAINTENANCE_FILE_NAME))


@contextmanager
def no_maintenance(path: Path, *, wait_s: float = _WAIT_S) -> Iterator[bool]:
    """Keep maintenance away, as one of any number of readers that need the packs to stay.

    Gives False when maintenance did not end within `wait_s` seconds. Creates no file: where there
    is none, as in a repository that confkeep has not written yet, nobody has repacked.

    Raises:
        PermissionError: who may not lock cannot keep it away.
    """
    try:
        descriptor = os.open(path / MAINTENANCE_FILE_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        deadline = time.monotonic() + wait_s
        while not (held := _try(descriptor, fcntl.LOCK_SH)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, wait_s: float = _WAIT_S) -> Iterator[int]:
    """Hold both locks alone, waiting for living writers and for maintenance to end.

    For who removes packs by other rules than a repack: of two that do so at once, each may remove
    what the other one relies on. Gives the descriptor that holds the lock of maintenance, to be
    inherited by git, as `maintenance` does.

    Raises:
        RepositoryBusy: one lived for all of `wait_s` seconds.
        OSError: the file system refused.
    """
    deadline = time.monotonic() + wait_s
    with ExitStack() as opened:
        descriptors = []
        # In this order, as a repack takes them.
        for name in (MAINTENANCE_FILE_NAME, FILE_NAME):
            descriptor = _open(path, name)
            opened.callback(os.close, descriptor)
            while not _try(descriptor, fcntl.LOCK_EX):
                if time.monotonic() >= deadline:
                    raise RepositoryBusy(f"{path.name} is being written by another process")
                time.sleep(_POLL_S)
            descriptors.append(descriptor)
        yield descriptors[0]


def _open(path: Path, name: str = FILE_NAME) -> int:
    return modes.create(path / name, os.O_RDWR)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
