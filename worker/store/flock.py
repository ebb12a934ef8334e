"""The repository's flock: the proof of who is alive; it changes no file of git's.

Whoever writes holds it shared for as long as it writes. Recovery wants it exclusive: getting it
proves that no writer lives, so every leftover lock and temporary file has a dead owner. A time-out
could not prove that: the owner may only be paused, and would go on with another's lock file.
The kernel gives the lock back when a process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from worker.errors import RepositoryBusy

#: The file in the repository that is locked. Its content says nothing.
FILE_NAME: Final = "confkeep.flock"

#: Seconds to wait for a recovery that another process is at.
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.005


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock as one of any number of writers of the repository at `path`.

    Maintenance that runs git in the repository holds it too. May be taken again within itself.

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
def alone(path: Path, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Hold the lock alone, waiting for living writers to end.

    Raises:
        RepositoryBusy: one lived for all of `wait_s` seconds.
        OSError: the file system refused.
    """
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + wait_s
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise RepositoryBusy(f"{path.name} is being written by another process")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
