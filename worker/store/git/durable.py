"""Syncs and renames files; no other module of the store does so."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ConfigLevel

from confkeep import modes
from confkeep.errors import StoreUnavailable
from worker.store.git import ownership, refusals

#: Follows git's own prefix in the name of each temporary file of ours, so that recovery can tell
#: our files from those of a `git repack` that runs at the same time.
TEMPORARY_MARK: Final = "confkeep_"

#: Bytes gathered for one write.
_WRITE_BYTES: Final = 1 << 20

#: Pieces gathered for one write; the system takes at most 1,024.
_WRITE_PIECES: Final = 1000

#: Linux's call to start writing a part of a file; Python has no name for it.
_sync_file_range: Final = getattr(ctypes.CDLL(None), "sync_file_range", None)
_SYNC_FILE_RANGE_WRITE: Final = 2
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

#: Called with each failpoint's name; set by crash tests only.
on_failpoint: Callable[[str], None] | None = None

#: The errors of a file system without hard links.
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


#: Of a pack, libgit2 maps so much at once. It reads beyond the end of what it mapped where a damaged idx
#: says so: with its own gigabyte the process dies, with this much the mapping is refused.
_WINDOW_BYTES: Final = 4 << 20


@functools.cache
def set_up_libgit2() -> None:
    """Make libgit2 sync what it writes, read other users' files, and ignore users' configuration.

    libgit2 fixes the first when it opens a repository's references, so call this before any
    `pygit2.Repository` of the process. Its check of owners protects nothing here, since it runs no
    program that a repository's configuration names. With users' configuration, a home that may not
    be read would make it fail.
    """
    pygit2.settings.enable_fsync_gitdir(True)
    pygit2.settings.mwindow_size = _WINDOW_BYTES
    pygit2.settings.owner_validation = False
    for level in (ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
        pygit2.settings.search_path[level] = ""


@contextmanager
def file_system_errors(name: str) -> Iterator[None]:
    """Turn the file system's refusals into `StoreUnavailable`; `name` says what was written.

    Refusals because the files are another user's become its subclass `NotOwner`.
    """
    try:
        yield
    except OSError as error:
        if (refusal := ownership.refusal_of(error)) is not None:
            raise refusal from error
        reason = refusals.said(error)
        raise StoreUnavailable(
            f"{name}: {reason}", hint=refusals.next_step(reason, name)
        ) from error


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path, *, living: bool = False) -> None:
    """Make everything below a folder durable, and the folder's own names.

    Args:
        living: whether other processes create, rename and remove files meanwhile; files that vanish
            after they were listed are skipped. Only for folders in which everyone syncs a file's
            bytes before renaming it, so that the bytes behind a new name are durable too.
    """
    passed_over = (FileNotFoundError,) if living else ()
    for folder, _folders, files in os.walk(path, topdown=False):
        for name in files:
            with suppress(*passed_over):
                sync_file(Path(folder, name))
        with suppress(*passed_over):
            sync_directory(Path(folder))


def sync_parents(path: Path) -> None:
    """Make the name of `path`, and those of all folders above it, durable.

    Syncs all of them, since any may have been created just now by a process that was killed.
    """
    for parent in path.parents:
        # We cannot have created anything in a folder that we may not read.
        with suppress(PermissionError):
            sync_directory(parent)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte: the system does not treat a short write as an error."""
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])


def failpoint(name: str) -> None:
    """A place in the write path where a crash test may end the process or raise."""
    if on_failpoint is not None:
        on_failpoint(name)


def create_file(
    path: Path,
    pieces: Iterable[bytes | memoryview],
    mode: int = 0o666,
    *,
    like: Path | None = None,
) -> None:
    """As `begin_file`; the bytes are durable when this returns."""
    with begin_file(path, pieces, mode, like=like) as sync:
        sync()


@contextmanager
def begin_file(
    path: Path,
    pieces: Iterable[bytes | memoryview],
    mode: int = 0o666,
    *,
    like: Path | None = None,
) -> Iterator[Callable[[], None]]:
    """Create a file with these bytes; the block gets the sync that makes them durable, its name excepted.

    The disk is asked to begin with them, so that files that are begun together wait for it together: where
    there is a journal, the first one's sync writes it for all of them. That is a hint; only the sync counts.

    If this or the block raises, the file does not exist under `path`; a descriptor whose sync failed is
    never used again.

    Args:
        mode: the most permissions; `confkeep.modes` says which of them.
        like: a file that this one is to replace, and whose permissions it gets if it is there.

    Raises:
        FileExistsError: there is such a file; it is left as it is.
        OSError: the file system refused.
    """
    descriptor = modes.create(path, os.O_WRONLY | os.O_EXCL, mode)
    try:
        try:
            if like is not None:
                modes.copy(like, descriptor, mode)
            gathered: list[bytes | memoryview] = []
            size = 0
            for piece in pieces:
                gathered.append(piece)
                size += len(piece)
                if size >= _WRITE_BYTES or len(gathered) == _WRITE_PIECES:
                    _write_gathered(descriptor, gathered, size)
                    gathered, size = [], 0
            _write_gathered(descriptor, gathered, size)
            _start_writing(descriptor)
            yield partial(os.fsync, descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        remove(path)
        raise


def _start_writing(descriptor: int) -> None:
    """Let the disk begin with a file's bytes, where the system can be asked to."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def _write_gathered(descriptor: int, pieces: list[bytes | memoryview], size: int) -> None:
    if pieces and (written := os.writev(descriptor, pieces)) < size:
        write_all(descriptor, b"".join(pieces)[written:])


def temporary_name(folder: Path, prefix: str) -> Path:
    """An unused name in `folder` that recovery recognizes as ours."""
    return folder / f"{prefix}{TEMPORARY_MARK}{secrets.token_hex(8)}"


def rename(source: Path, target: Path) -> None:
    """Give a file its final name; durable only after `sync_directory`."""
    os.rename(source, target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which must be unused; durable only after `sync_directory`.

    On a file system without hard links, `target` becomes a copy.

    Raises:
        FileExistsError: there is something of that name.
        OSError: the file system refused.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        create_file(target, [source.read_bytes()], like=source)


def remove(path: Path) -> None:
    """Remove a file if it exists. If a power cut brings it back, recovery removes it again."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def replace_file(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666) -> None:
    """Replace the content of `path` with `data` in one step; durable when this returns.

    An existing file keeps its owner and its permissions.

    Args:
        mode: the most permissions that a new file gets.
    """
    temporary = temporary_name(path.parent, "tmp_")
    create_file(temporary, [data] if isinstance(data, bytes) else data, mode, like=path)
    try:
        rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    sync_directory(path.parent)


def append_to_file(path: Path, line: bytes) -> None:
    """Add a line, which ends with a newline, to a file; durable when this returns.

    If a crash cut the last line short, that line stays, and gets its newline first.
    """
    descriptor = modes.create(path, os.O_RDWR | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        write_all(descriptor, b"\n" * cut + line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
