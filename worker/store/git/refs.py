"""Reads, moves and deletes refs under git's own lock files; moves `main` by compare-and-swap.

This is the protocol of git's files backend: the process that creates `main.lock` may change `main`;
it compares the old value under that lock, then renames the lock file, written and synced, to be the
new value. libgit2 does the same, but hides which step failed, first looks the target up in every
pack, and leaves lock files that do not tell whose they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confkeep import modes
from confkeep.errors import RepositoryBusy, RepositoryDamaged
from worker.store.git import durable

_OBJECT_ID = re.compile(r"[0-9a-f]{40}")

#: The branch that holds a tenant's backups.
MAIN_REF: Final = "refs/heads/main"
PACKED_NAME: Final = "packed-refs"
#: A file with a ref's value is far shorter.
_MOST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Value:
    """A file with a ref's next value, and what makes its bytes durable."""

    file: Path
    sync: Callable[[], None]


def read_main(path: Path) -> str | None:
    """The 40-hex id of the commit that `main` names now; None when there is no `main`.

    Raises:
        RepositoryDamaged: the ref's file holds anything else.
    """
    found = _read_loose(path)
    if found is None:
        found = _read_packed(path)
    # `git pack-refs` writes the packed value before it removes the loose one, but another writer
    # may have made a new loose one since we looked.
    if found is None:
        found = _read_loose(path)
    return found


@contextmanager
def new_value(path: Path, target: str) -> Iterator[Value]:
    """Begin the file with which `main` is to be moved to `target`, for `move_main` in the block."""
    with _begun(path, MAIN_REF, target.encode() + b"\n") as value:
        yield value


def move_main(path: Path, expected: str | None, target: str, value: Value | None = None) -> None:
    """Move `main` to `target` if it still names `expected`; durable when this returns.

    Args:
        expected: what `read_main` gave when the parent was read; None if there was no `main`.
        value: as `new_value` gave it for `target`; None: it is written now.

    Raises:
        RepositoryBusy: another writer moved `main` or holds its lock. `main` was not moved.
        OSError: the file system refused. Whether `main` was moved is unknown.
    """
    ref = path / MAIN_REF
    with (
        nullcontext(value) if value else new_value(path, target) as value,
        _locked_by(value, path, MAIN_REF) as lock,
    ):
        durable.failpoint("ref-locked")
        _compare(path, expected)
        durable.rename(lock, ref)
    durable.failpoint("ref-moved")
    durable.sync_directory(ref.parent)


@contextmanager
def _locked(path: Path, name: str, data: bytes = b"") -> Iterator[Path]:
    """Hold git's lock of a ref, or of `packed-refs`, until the block ends or renames its file.

    The lock file is a hard link to a temporary file of ours, which tells recovery whose it is.

    Raises:
        RepositoryBusy: another program holds it, or died and left it.
        OSError: the file system refused.
    """
    with _begun(path, name, data) as value, _locked_by(value, path, name) as lock:
        yield lock


@contextmanager
def _begun(path: Path, name: str, data: bytes) -> Iterator[Value]:
    temporary = durable.temporary_name(path, "tmp_")
    try:
        with durable.begin_file(temporary, [data], like=path / name) as sync:
            yield Value(temporary, sync)
    finally:
        durable.remove(temporary)


@contextmanager
def _locked_by(value: Value, path: Path, name: str) -> Iterator[Path]:
    value.sync()
    lock = path / f"{name}.lock"
    try:
        durable.link(value.file, lock)
    except FileExistsError as error:
        raise RepositoryBusy(f"{path.name}: {name} is locked by another program") from error
    ours = os.stat(lock).st_ino
    try:
        yield lock
    finally:
        # After a rename, another writer may own the lock's name already.
        with suppress(FileNotFoundError):
            if os.stat(lock).st_ino == ours:
                durable.remove(lock)


def create_ref(path: Path, name: str, target: str) -> None:
    """Create a new ref; durable when this returns. The caller holds the flock exclusively."""
    modes.make_folders((path / name).parent)
    with _begun(path, name, target.encode() + b"\n") as value:
        value.sync()
        durable.rename(value.file, path / name)
    _sync_folders(path, name)


def delete_refs(path: Path, names: Iterable[str]) -> None:
    """Delete refs, loose and packed; durable on return. The caller holds the flock exclusively.

    Raises:
        RepositoryBusy: another program holds the lock of a ref or of `packed-refs`.
        OSError: the file system refused.
    """
    gone = list(names)
    with ExitStack() as held:
        for name in gone:
            modes.make_folders((path / name).parent)
            held.enter_context(_locked(path, name))
        _drop_refs(path, gone)


def _drop_refs(path: Path, gone: Collection[str]) -> None:
    """Delete refs whose locks are held: packed first, so that no older value appears meanwhile."""
    if any(_packed_name(line) in gone for line in _packed_lines(path)):
        with _locked(path, PACKED_NAME):
            kept, dropped = [], False
            for line in _packed_lines(path):
                # A line that begins with `^` belongs to the ref above it.
                dropped = dropped if line.startswith(b"^") else _packed_name(line) in gone
                if not dropped:
                    kept.append(line)
            durable.replace_file(path / PACKED_NAME, b"".join(kept))
    for name in gone:
        durable.remove(path / name)
        durable.remove(path / "logs" / name)
        _sync_folders(path, name)


def _packed_lines(path: Path) -> list[bytes]:
    try:
        return (path / PACKED_NAME).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except IsADirectoryError as error:
        raise RepositoryDamaged(f"{path.name}: {PACKED_NAME} is no file") from error


def _packed_name(line: bytes) -> str:
    return line.rstrip(b"\r\n").partition(b" ")[2].decode("utf-8", "replace")


def _sync_folders(path: Path, name: str) -> None:
    folder = (path / name).parent
    while folder != path:
        durable.sync_directory(folder)
        folder = folder.parent


def point_refs(path: Path, targets: Mapping[str, str | None]) -> None:
    """Point refs other than `main` to other commits, or delete them (None); durable on return.

    The caller holds the flock exclusively.

    Raises:
        RepositoryBusy: another program holds a ref's lock.
        OSError: the file system refused.
    """
    for name, target in targets.items():
        if target is not None:
            modes.make_folders((path / name).parent)
            with _locked(path, name, target.encode() + b"\n") as lock:
                durable.rename(lock, path / name)
            _sync_folders(path, name)
    delete_refs(path, [name for name, target in targets.items() if target is None])


def delete_main(path: Path, expected: str) -> None:
    """Delete `main` if it still names `expected`. The caller holds the flock exclusively.

    Raises:
        RepositoryBusy: another program moved `main`, or holds a lock.
        OSError: the file system refused.
    """
    with _locked(path, MAIN_REF):
        _compare(path, expected)
        _drop_refs(path, [MAIN_REF])
    durable.failpoint("ref-moved")


def _compare(path: Path, expected: str | None) -> None:
    if read_main(path) != expected:
        raise RepositoryBusy("main was moved by another writer")


def sync_main(path: Path) -> None:
    """Make the ref's present value, or its absence, durable, whoever moved it."""
    ref = path / MAIN_REF
    found = ref if ref.exists() else path / PACKED_NAME
    # Neither exists after an erasure left no commit.
    if found.exists():
        durable.sync_file(found)
    durable.sync_directory(ref.parent)
    durable.sync_directory(path)


def read_short(file: Path) -> bytes:
    """The bytes of a file that holds no more than an id, with a third of `read_bytes`' system calls.

    Raises:
        OSError: as `os.open` and `os.read`.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def _read_loose(path: Path) -> str | None:
    try:
        text = read_short(path / MAIN_REF).decode("ascii", "replace").rstrip()
    except FileNotFoundError:
        return None
    except (IsADirectoryError, NotADirectoryError) as error:
        raise RepositoryDamaged(f"{path.name}: {MAIN_REF} is no file") from error
    if not _OBJECT_ID.fullmatch(text):
        raise RepositoryDamaged(f"{path.name}: {MAIN_REF} holds no commit id")
    return text


def _read_packed(path: Path) -> str | None:
    for line in _packed_lines(path):
        value = line.partition(b" ")[0].decode("ascii", "replace")
        if _packed_name(line) == MAIN_REF and _OBJECT_ID.fullmatch(value):
            return value
    return None
