"""Opening and creating a tenant's bare repository; it writes no backup and moves no branch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ObjectType

from worker.errors import NotInStore, RepositoryDamaged, StoreUnavailable
from worker.store import durable, refs
from worker.store.backup import MAIN_REF, Signature, checked_uuid

DEFAULT_AUTHOR: Final = Signature("The Other Dude", "backup@tod.local")

_HEAD_OF_MAIN = f"ref: {MAIN_REF}\n".encode()
_TENANT_FOLDER = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.git")


@dataclass(frozen=True, slots=True)
class TenantRepository:
    """An open repository of one tenant. Not safe to share between threads."""

    path: Path
    git: pygit2.Repository
    author: Signature = DEFAULT_AUTHOR

    def tip(self) -> pygit2.Oid | None:
        """The newest commit: that of `main`, or of HEAD's branch in a store older than `main`."""
        for name in (MAIN_REF, "HEAD"):
            try:
                target = self.git.references[name].resolve().target
            except KeyError:
                continue
            if isinstance(target, pygit2.Oid) and self._is_commit(target):
                return target
        return None

    def _is_commit(self, target: pygit2.Oid) -> bool:
        found = self.git.get(target)
        if found is None:
            raise RepositoryDamaged(f"{self.path.name}: the branch names a missing commit")
        return found.type == ObjectType.COMMIT


def repository_path(store: Path, tenant_id: str) -> Path:
    """Where a tenant's repository is or would be.

    Raises:
        InvalidId: `tenant_id` is not a UUID.
    """
    return store / f"{checked_uuid('tenant_id', tenant_id)}.git"


def tenants_of(store: Path) -> list[str]:
    """The ids of all tenants that have a repository, sorted."""
    try:
        names = os.listdir(store)
    except FileNotFoundError:
        return []
    return sorted(m.group(1) for name in names if (m := _TENANT_FOLDER.fullmatch(name)))


def open_repository(path: Path, author: Signature = DEFAULT_AUTHOR) -> TenantRepository:
    """Open an existing repository; changes nothing on disk.

    Raises:
        NotInStore: there is none.
        RepositoryDamaged: git cannot open it.
    """
    durable.enable_fsync_of_git()
    if not path.is_dir():
        raise NotInStore(f"no repository {path.name}")
    try:
        repository = pygit2.Repository(str(path), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
    except pygit2.GitError as error:
        raise RepositoryDamaged(f"{path.name} cannot be opened as a git repository") from error
    return TenantRepository(path, repository, author)


def create_repository(path: Path, author: Signature = DEFAULT_AUTHOR) -> TenantRepository:
    """Open a repository, or create a bare one with its parents; ready for commits.

    Idempotent, also beside another process that creates the same one. What is created is durable
    when this returns. HEAD is made to point to `main`, so that a plain clone shows the backups.

    Raises:
        StoreUnavailable: the file system refused.
        RepositoryDamaged: something else is in its place.
    """
    durable.enable_fsync_of_git()
    with durable.file_system_errors(path.name):
        if not (path / "HEAD").exists() or not (path / "objects").is_dir():
            _init(path)
        repository = open_repository(path, author)
        _adopt(repository)
        if (path / "HEAD").read_bytes() != _HEAD_OF_MAIN:
            durable.replace_file(path / "HEAD", _HEAD_OF_MAIN)
    return repository


def _init(path: Path) -> None:
    """Create the repository and make each new file and folder durable: libgit2 syncs none."""
    first_missing = path
    while not first_missing.parent.exists():
        first_missing = first_missing.parent
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pygit2.init_repository(str(path), bare=True, initial_head="main")
    except pygit2.GitError as error:
        raise StoreUnavailable(f"{path.name} cannot be created: {error}") from error
    durable.sync_tree(path)
    for parent in path.parents:
        durable.sync_directory(parent)
        if parent == first_missing.parent:
            break


def _adopt(repository: TenantRepository) -> None:
    """Let `main` go on where a store that used another branch stopped."""
    if MAIN_REF in repository.git.references:
        return
    tip = repository.tip()
    if tip is not None:
        refs.create_main(repository.git, tip, expected_absent=False)
