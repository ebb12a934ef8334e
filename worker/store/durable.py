"""The only place of the store that syncs and renames; it knows files and folders, not git."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2

from worker.errors import StoreUnavailable

#: What the file system says when it cannot take any more, or not from us.
_REFUSALS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EIO: "input/output error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files in the system",
}


def enable_fsync_of_git() -> None:
    """Make libgit2 sync what it writes.

    libgit2 latches this when it opens a repository's references, so it must come before any
    `pygit2.Repository` of the process.
    """
    pygit2.settings.enable_fsync_gitdir(True)


@contextmanager
def file_system_errors(name: str) -> Iterator[None]:
    """Turn the file system's refusals into `StoreUnavailable`; `name` says what was written."""
    try:
        yield
    except OSError as error:
        reason = _REFUSALS.get(error.errno or 0) or os.strerror(error.errno or 0)
        raise StoreUnavailable(f"{name}: {reason}") from error


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Make everything below a folder durable, and the folder's own names."""
    for folder, _folders, files in os.walk(path, topdown=False):
        for name in files:
            sync_file(Path(folder, name))
        sync_directory(Path(folder))


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte: a short write is not an error to the system, but to us."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` into `path`, whole or not at all, and durable when this returns."""
    descriptor, temporary = tempfile.mkstemp(prefix="tmp_confkeep_", dir=path.parent)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)
