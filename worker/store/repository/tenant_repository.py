"""Opens and creates a tenant's bare repository."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pygit2
from pygit2.enums import ObjectType

from confkeep import modes
from confkeep.errors import (
    ConfkeepError,
    NotInStore,
    RepositoryBusy,
    RepositoryDamaged,
    StoreMissing,
    StoreUnavailable,
)
from worker.store.git import durable, flock, ownership, refs
from worker.store.git.opening import open_git
from worker.store.git.refs import MAIN_REF
from worker.store.repository import recovery
from worker.store.repository.backup import Signature, checked_uuid
from worker.store.repository.id_map import MapKeeper

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")

DEFAULT_AUTHOR: Final = Signature("The Other Dude", "backup@tod.local")

#: Seconds after which the creator of a repository that still has no name is taken to be dead.
_ABANDONED_S: Final = 3600.0

_OF_DAMAGE: Final = (
    pygit2.GitError,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    ArithmeticError,
    sqlite3.Error,
    struct.error,
    zlib.error,
)

#: What libgit2 says where it cannot open a pack whose index it has read.
_PACK_THAT_FAILED: Final = re.compile(r"invalid packfile '(.+\.pack)'")
#: A call that reads is repeated so often because a repack removed its pack.
_MOST_REPACKS: Final = 5

_HEAD_OF_MAIN = f"ref: {MAIN_REF}\n".encode()
_TENANT_FOLDER = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.git")


@dataclass(frozen=True, slots=True)
class TenantRepository:
    """An open repository of one tenant. Not safe to share between threads."""

    path: Path
    git: pygit2.Repository
    author: Signature = DEFAULT_AUTHOR
    #: The map of rewritten ids.
    ids: MapKeeper = field(default_factory=MapKeeper, repr=False, compare=False)
    #: Files beside it that stay open from one reading to the next, by name.
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def close(self) -> None:
        """Release what is open. Dropping it releases that only when the garbage collector runs: pygit2's
        repositories are in cycles."""
        self.git.free()
        self.ids.close()
        while self.kept:
            self.kept.popitem()[1].close()

    def tip(self) -> pygit2.Oid | None:
        """The newest commit: that of `main`, or of HEAD's branch in a store older than `main`.

        Raises:
            NotOwner: it may not be read.
            RepositoryDamaged: the branch names no commit that is there.
        """
        with damage(self.path):
            main = refs.read_main(self.path)
            if main is not None:
                return self._commit(pygit2.Oid(hex=main))
            try:
                target = self.git.references["HEAD"].resolve().target
            except KeyError:
                return None
            return self._commit(target) if isinstance(target, pygit2.Oid) else None

    def _commit(self, target: pygit2.Oid) -> pygit2.Oid:
        found = self.git.get(target)
        if found is None:
            raise RepositoryDamaged(f"{self.path.name}: the branch names a missing commit")
        if found.type != ObjectType.COMMIT:
            raise RepositoryDamaged(
                f"{self.path.name}: the branch names something else than a commit"
            )
        return target


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn errors of reading a damaged repository into `RepositoryDamaged`, or its `NotOwner`.

    libgit2 raises `KeyError` for a missing object and `ValueError` for an invalid name; a damaged
    object may raise whatever its reader did not expect.
    """
    try:
        yield
    except ConfkeepError:
        raise
    except OSError as error:
        refusal = ownership.refusal_of(error)
        reason = error.strerror or str(error)
        raise refusal or RepositoryDamaged(f"{path.name}: {reason}") from error
    except _OF_DAMAGE as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"object {error.args[0] if error.args else ''} is missing"
        raise RepositoryDamaged(f"{path.name}: {reason}") from error


def tells_damage(
    function: Callable[Concatenate[TenantRepository, _Arguments], _Answer],
) -> Callable[Concatenate[TenantRepository, _Arguments], _Answer]:
    """For functions that read a repository: applies `damage` to the whole call, no generator's.

    libgit2 looks twice for an object whose pack went. Beside two repacks that is not enough, so the call
    is repeated.
    """

    @functools.wraps(function)
    def wrapper(
        repository: TenantRepository, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Answer:
        with damage(repository.path):
            for _ in range(_MOST_REPACKS):
                try:
                    return function(repository, *args, **kwargs)
                except (OSError, pygit2.GitError) as error:
                    pack = _PACK_THAT_FAILED.search(str(error))
                    if pack is None or Path(pack[1]).exists():
                        raise
            return function(repository, *args, **kwargs)

    return wrapper


def repository_path(store: Path, tenant_id: str) -> Path:
    """Where a tenant's repository is or would be.

    Raises:
        InvalidId: `tenant_id` is not a UUID.
    """
    return store / f"{checked_uuid('tenant_id', tenant_id)}.git"


def require_store(store: Path) -> None:
    """For readers: a missing store is an error, not an empty store.

    Raises:
        StoreMissing: there is no such folder.
        NotOwner: it is another user's, who lets nobody look.
        OSError: the file system refused.
    """
    try:
        there = store.is_dir()
    except PermissionError as error:
        raise ownership.refusal_of(error) or error from error
    if not there:
        raise StoreMissing(f"there is no folder {store.absolute()}")


def tenants_of(store: Path) -> list[str]:
    """The ids of all tenants that have a repository, sorted; empty if there is no store yet.

    Raises:
        NotOwner: the store is another user's, who lets nobody in.
        OSError: the file system refused.
    """
    try:
        names = os.listdir(store)
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise ownership.refusal_of(error) or error from error
    return sorted(m.group(1) for name in names if (m := _TENANT_FOLDER.fullmatch(name)))


def no_repository(path: Path) -> NotInStore:
    """The error for a tenant that has no repository at this path."""
    return NotInStore(
        f"no repository {path.name} in {path.parent}",
        hint="`confkeep history` alone lists the tenants that have one; their first backup makes it.",
    )


def open_repository(path: Path, author: Signature = DEFAULT_AUTHOR) -> TenantRepository:
    """Open an existing repository; changes nothing on disk.

    Raises:
        StoreMissing: the store around it is not there.
        NotInStore: there is none.
        NotOwner: it is another user's, who lets nobody read it.
        RepositoryDamaged: git cannot open it.
    """
    durable.set_up_libgit2()
    with damage(path):
        if not path.is_dir():
            require_store(path.parent)
            raise no_repository(path)
        # libgit2 would not report that they may not be read.
        with suppress(FileNotFoundError, NotADirectoryError):
            (path / "HEAD").read_bytes()
            os.listdir(path / "objects" / "pack")
            os.listdir(path / "refs" / "heads")
    return _open(path, author)


def _open(path: Path, author: Signature) -> TenantRepository:
    try:
        repository = open_git(path)
    except pygit2.GitError as error:
        text = f"{path.name} cannot be opened as a git repository: {error}"
        raise RepositoryDamaged(text) from error
    return TenantRepository(path, repository, author)


def create_repository(path: Path, author: Signature = DEFAULT_AUTHOR) -> TenantRepository:
    """Open a repository, or create a bare one with its parents; ready for commits.

    Idempotent, also beside another process that creates the same one. What is created is durable
    when this returns. What dead writers left is removed if no writer lives. HEAD is made to point
    to `main`, so that a plain clone shows the backups.

    Raises:
        RepositoryBusy: another process was at its recovery for too long.
        NotOwner: it is another user's.
        StoreUnavailable: the file system refused.
        RepositoryDamaged: something else is in its place.
    """
    durable.set_up_libgit2()
    with durable.file_system_errors(path.name):
        ownership.require_writer(path)
        if not (path / "HEAD").exists() or not (path / "objects").is_dir():
            _init(path)
        recovery.recover(path)
        repository = _open(path, author)
        if refs.read_main(path) is None or not _head_is_main(path):
            with flock.shared(path):
                _adopt(repository)
                if not _head_is_main(path):
                    durable.replace_file(path / "HEAD", _HEAD_OF_MAIN)
    return repository


def _head_is_main(path: Path) -> bool:
    return refs.read_short(path / "HEAD") == _HEAD_OF_MAIN


def _init(path: Path) -> None:
    """Create the repository under a temporary name, make it durable, then give it its name.

    libgit2 syncs nothing at init, and two processes that init the same folder write into each
    other's files. The name is given only once; the second process drops what it made.
    """
    if path.exists() and os.listdir(path):
        # Another program began it and did not end; init completes it and overwrites nothing.
        _init_git(path)
    else:
        modes.make_folders(path.parent)
        prefix = f".{path.name}."
        _drop_abandoned(path.parent, prefix)
        aside = durable.temporary_name(path.parent, prefix)
        try:
            mode = modes.folder_mode(path.parent)
            os.mkdir(aside, modes.PRIVATE)
            _init_git(aside)
            modes.set_tree(aside, mode)
            durable.sync_tree(aside)
            durable.failpoint("repository-initialised")
            durable.rename(aside, path)
        except OSError:
            if not (path / "HEAD").exists():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        durable.failpoint("repository-named")
    sync_repository(path)


def sync_repository(path: Path) -> None:
    """Make all files of a repository, and the repository itself, durable.

    Needed before the first commit too: the repository's creator may have been killed before this.
    Maintenance may run meanwhile, and remove its note, its temporary files and packs whose objects
    are in others. A first commit needs none of these, only HEAD and the folders.

    Raises:
        OSError: the file system refused, or there is no HEAD.
    """
    durable.sync_tree(path, living=True)
    durable.sync_file(path / "HEAD")
    durable.sync_parents(path)


def _init_git(path: Path) -> None:
    try:
        pygit2.init_repository(str(path), bare=True, initial_head="main")
    except pygit2.GitError as error:
        raise StoreUnavailable(f"{path.name} cannot be created: {error}") from error


def _drop_abandoned(store: Path, prefix: str) -> None:
    """Remove what killed creators left an hour ago or earlier."""
    for name in os.listdir(store):
        if not name.startswith(prefix):
            continue
        # A living creator may be renaming its repository.
        with suppress(FileNotFoundError):
            if (store / name).stat().st_mtime < time.time() - _ABANDONED_S:
                shutil.rmtree(store / name, ignore_errors=True)


def _adopt(repository: TenantRepository) -> None:
    """Create `main` where a store that used another branch stopped."""
    if refs.read_main(repository.path) is not None:
        return
    tip = repository.tip()
    if tip is not None:
        with suppress(RepositoryBusy):
            refs.move_main(repository.path, None, str(tip))
