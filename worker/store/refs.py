"""Reading and moving `main` by compare-and-swap under git's own lock file; it writes no object.

This is the protocol of git's files backend: whoever creates `main.lock` may change `main`; the
old value is compared under that lock, and the lock file, written and synced, is renamed to be the
new value. libgit2 does the same, but hides which step failed, and looks the target up in every
pack first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2

from worker import modes
from worker.errors import RepositoryBusy, RepositoryDamaged
from worker.store import durable
from worker.store.backup import MAIN_REF

_OBJECT_ID = re.compile(r"[0-9a-f]{40}")

PACKED_NAME: Final = "packed-refs"


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


def move_main(path: Path, expected: str | None, target: str) -> None:
    """Let `main` name `target` if it still names what `read_main` returned; durable on return.

    Args:
        expected: what `read_main` gave when the parent was read; None: there was no `main`.

    Raises:
        RepositoryBusy: another writer moved `main` or holds its lock. `main` was not moved.
        OSError: the file system refused. Whether `main` was moved is unknown.
    """
    ref = path / MAIN_REF
    lock = path / f"{MAIN_REF}.lock"
    try:
        durable.create_file(lock, [target.encode() + b"\n"])
    except FileExistsError as error:
        raise RepositoryBusy("main is locked by another writer") from error
    ours = os.stat(lock).st_ino
    durable.failpoint("ref-locked")
    try:
        _compare(path, expected)
        durable.rename(lock, ref)
    except BaseException:
        # After a rename that took effect the lock's name may be another writer's already, and go.
        with suppress(FileNotFoundError):
            if os.stat(lock).st_ino == ours:
                durable.remove(lock)
        raise
    durable.failpoint("ref-moved")
    durable.sync_directory(ref.parent)


def create_ref(path: Path, name: str, target: str) -> None:
    """Create a ref that there is not yet; durable on return. For who holds the flock exclusively."""
    folder = (path / name).parent
    modes.make_folders(folder)
    temporary = durable.temporary_name(path, "tmp_")
    try:
        durable.create_file(temporary, [target.encode() + b"\n"])
        durable.rename(temporary, path / name)
    finally:
        durable.remove(temporary)
    while folder != path:
        durable.sync_directory(folder)
        folder = folder.parent


def delete_refs(path: Path, git: pygit2.Repository, names: Iterable[str]) -> None:
    """Delete refs, loose and packed; durable on return. For who holds the flock exclusively.

    Raises:
        pygit2.GitError: another program holds a ref's lock.
        OSError: the file system refused.
    """
    for name in names:
        git.references.delete(name)
    # libgit2 removes folders that it empties.
    modes.make_folders((path / MAIN_REF).parent)
    # Libgit2 goes by the process's umask.
    for folder, _folders, files in os.walk(path / "refs"):
        for name in files:
            modes.narrow(Path(folder, name))
        durable.sync_directory(Path(folder))
    if (path / PACKED_NAME).exists():
        modes.narrow(path / PACKED_NAME)
    durable.sync_directory(path)


def point_refs(path: Path, git: pygit2.Repository, targets: Mapping[str, str | None]) -> None:
    """Let refs other than `main` name other commits; None: delete it. Durable on return.

    For who holds the flock exclusively.

    Raises:
        pygit2.GitError: another program holds a ref's lock.
        OSError: the file system refused.
    """
    for name, target in targets.items():
        if target is not None:
            git.references[name].set_target(pygit2.Oid(hex=target))
    delete_refs(path, git, [name for name, target in targets.items() if target is None])


def delete_main(path: Path, git: pygit2.Repository, expected: str) -> None:
    """Let there be no `main`, if it still names `expected`. For who holds the flock exclusively.

    Raises:
        RepositoryBusy: another writer moved `main`.
        pygit2.GitError, OSError: as `delete_refs`.
    """
    _compare(path, expected)
    delete_refs(path, git, [MAIN_REF])
    durable.failpoint("ref-moved")


def _compare(path: Path, expected: str | None) -> None:
    if read_main(path) != expected:
        raise RepositoryBusy("main was moved by another writer")


def sync_main(path: Path) -> None:
    """Make the ref, or that there is none, durable as it is now, whoever moved it."""
    ref = path / MAIN_REF
    found = ref if ref.exists() else path / PACKED_NAME
    # Neither is there when an erasure left no commit.
    if found.exists():
        durable.sync_file(found)
    durable.sync_directory(ref.parent)
    durable.sync_directory(path)


def _read_loose(path: Path) -> str | None:
    try:
        text = (path / MAIN_REF).read_bytes().decode("ascii", "replace").rstrip()
    except FileNotFoundError:
        return None
    if not _OBJECT_ID.fullmatch(text):
        raise RepositoryDamaged(f"{path.name}: {MAIN_REF} holds no commit id")
    return text


def _read_packed(path: Path) -> str | None:
    try:
        lines = (path / PACKED_NAME).read_bytes().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        value, _, name = line.partition(" ")
        if name == MAIN_REF and _OBJECT_ID.fullmatch(value):
            return value
    return None
