"""Erases a device or a tenant from the store, and proves it.

`docs/retention.md`, Erasure, explains the steps. After a crash, all of them can be repeated.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

import pygit2

from confkeep.errors import ErasureIncomplete, RepositoryDamaged
from worker.store.git import durable, flock, ownership, refs
from worker.store.git.git_objects import (
    COMMIT,
    TREE,
    BadObject,
    GitObjects,
    git_for_objects,
    loose_ids,
)
from worker.store.git.git_process import require_git
from worker.store.git.refs import MAIN_REF
from worker.store.history.index import DAMAGE_MARK, INDEX_NAME, open_index
from worker.store.history.index_file import IndexFile, delete_file
from worker.store.history.index_rows import Unusable
from worker.store.repository import headers, id_map, recovery
from worker.store.repository.backup import checked_uuid, pack_uuid
from worker.store.repository.headers import DEVICE_ID_HEADER
from worker.store.repository.id_map import IdMap, Rewrite
from worker.store.repository.tenant_repository import (
    TenantRepository,
    no_repository,
    open_repository,
)
from worker.store.rewriting import prune
from worker.store.rewriting.rewrite import (
    BEFORE_REFS,
    HistoryWriter,
    Made,
    before_refs,
    replace_history,
)
from worker.store.rewriting.rewrite_erasure import Eraser, Forgotten

#: Files in which git names commits that were once fetched or reset to.
_TRACES: Final = ("logs", "ORIG_HEAD", "FETCH_HEAD")
#: Seconds after which the git that proves an erasure is killed.
_PROOF_S: Final = 6 * 3600.0
#: The id that stands for "no commit".
_NO_COMMIT: Final = "0" * 40


def forget_device(path: Path, device_id: str, *, now_s: int) -> Forgotten:
    """Erase a device's commits, files and tree entries from a repository; then prove it.

    Works on every branch, and on histories with merges. An annotated tag cannot be rewritten, so it
    is left; the proof then finds what it reaches.

    The caller holds the tenant lock, but not the flock.

    Raises:
        NotInStore: there is no such repository.
        GitUnavailable: git is not there; nothing was changed.
        MaintenanceFailed: git failed; call again.
        RepositoryBusy: another process writes; nothing was changed.
        ErasureIncomplete: something of the device is there still; the message says what.
        StoreUnavailable: the file system refused; call again.
        RepositoryDamaged: an object that is needed is missing.
    """
    device = checked_uuid("device_id", device_id)
    require_git()
    ownership.require_writer(path)
    repository = open_repository(path)
    with durable.file_system_errors(path.name):
        try:
            with flock.alone(path) as held:
                for leftover in recovery.leftovers(path):
                    durable.remove(leftover)
                id_map.settle(path)
                prune.mark_due(path)
                forgotten = _rewrite(repository, device, now_s)
                _drop_traces(repository)
                prune.prune(path, held)
                # Open the repository again: libgit2 still has packs open that the prune removed.
                with open_index(open_repository(path)) as index:
                    index.catch_up(refs.read_main(path), anew=True)
                found = traces_of_device(path, device, held)
        except pygit2.GitError as error:
            raise RepositoryDamaged(f"{path.name}: {error}") from error
    if found:
        raise ErasureIncomplete(f"{path.name}: {'; '.join(found[:5])}")
    return forgotten


def _rewrite(repository: TenantRepository, device: str, now_s: int) -> Forgotten:
    path, git = repository.path, repository.git
    tip = refs.read_main(path)
    with contextlib.ExitStack() as keeps:
        with HistoryWriter(repository, tip, keeps) as writer:
            eraser = Eraser(repository, writer, device)
            made = Made() if tip is None else eraser.write(tip)
            if tip is not None and made.tip != tip:
                replace_history(
                    repository, tip, made, now_s=now_s, keep_old=False, forgotten=device
                )
            else:
                _forget_in_map(path, device, tip, now_s)
        targets = {}
        for name, other in _other_branches(git).items():
            new_tip = eraser.write(other).tip
            if new_tip != other:
                targets[name] = new_tip
        if targets:
            refs.point_refs(path, targets)
        durable.failpoint("branches-moved")
    return eraser.forgotten


def _other_branches(git: pygit2.Repository) -> dict[str, str]:
    """The refs other than `main` that other programs made, and the commits that they name."""
    found = {}
    for name in git.references:
        target = git.references[name].target
        if (
            name != MAIN_REF
            and not name.startswith(BEFORE_REFS)
            and isinstance(target, pygit2.Oid)
            and isinstance(git.get(target), pygit2.Commit)
        ):
            found[name] = str(target)
    return found


def _forget_in_map(path: Path, device: str, tip: str | None, now_s: int) -> None:
    """Take the device out of the id map when the history has nothing of it."""
    if not (path / id_map.FILE_NAME).exists():
        return
    step = Rewrite(_NO_COMMIT, tip, now_s, commits=(), removed=(), binaries=(), forgotten=device)
    id_map.write_pending(path, step)
    id_map.settle(path)


def _drop_traces(repository: TenantRepository) -> None:
    path = repository.path
    refs.delete_refs(path, before_refs(repository.git))
    id_map.drop_before(path)
    for name in _TRACES:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            durable.remove(path / name)
    delete_file(path / INDEX_NAME)
    durable.remove(path / DAMAGE_MARK)
    durable.sync_directory(path)
    durable.failpoint("traces-dropped")


def traces_of_device(path: Path, device_id: str, held: int | None = None) -> list[str]:
    """What a repository still holds of a device; an empty list proves that there is nothing.

    Reads every object. A file that only the device had is proven to be gone when refs reach every
    object, and no commit or tree leads to the device.

    Args:
        held: as `flock.alone` gives it; None if nobody holds it.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, failed or took too long.
        RepositoryDamaged: the map of ids cannot be read.
    """
    found: list[str] = []
    reachable = prune.reachable_ids(path, held)
    with git_for_objects(path, held=held, deadline=time.monotonic() + _PROOF_S) as git:
        for idx in sorted((path / "objects" / "pack").glob("*.idx")):
            checked = git.finish("verify-pack", str(idx.absolute()))
            if checked.code:
                found.append(f"{idx.name} cannot be read: {checked.said.strip()[:300]}")
        with GitObjects(git) as objects:
            found += _in_objects(objects, reachable, device_id)
    found += [f"object {id_} is there, loose" for id_ in loose_ids(path)]
    found += [
        f"objects/pack/{name} is there"
        for name in os.listdir(path / "objects" / "pack")
        if name.startswith(("tmp_", ".tmp"))
    ]
    refs_left = path / BEFORE_REFS.rstrip("/")
    if refs_left.is_dir() and os.listdir(refs_left):
        found.append(f"{BEFORE_REFS} holds refs")
    found += [f"{name} is there" for name in _TRACES if (path / name).exists()]
    found += [f"{file.name} is there" for file in path.glob(f"{id_map.BEFORE_PREFIX}*")]
    if (path / id_map.PENDING_NAME).exists():
        found.append(f"{id_map.PENDING_NAME} is there")
    if (path / id_map.FILE_NAME).exists():
        with contextlib.closing(IdMap(path / id_map.FILE_NAME)) as ids:
            if ids.names(device_id):
                found.append(f"{id_map.FILE_NAME} names it")
    if (path / INDEX_NAME).exists() and _index_names(path / INDEX_NAME, device_id):
        found.append(f"{INDEX_NAME} names it")
    return found


def _in_objects(objects: GitObjects, reachable: set[bytes], device_id: str) -> list[str]:
    found = [
        f"object {id_.hex()} is there, and no ref reaches it"
        for id_ in objects.ids()
        if id_ not in reachable
    ]
    entry = b" %s\0" % device_id.encode()
    for id_, kind, data in objects.each(objects.ids((COMMIT, TREE))):
        if isinstance(data, BadObject):
            found.append(f"object {id_.hex()} cannot be read: {data}")
        elif id_ in reachable and (
            (kind == TREE and entry in data)
            or (kind == COMMIT and headers.id_in_header(data, DEVICE_ID_HEADER) == device_id)
        ):
            found.append(f"object {id_.hex()} names it; is there a tag?")
    return found


def _index_names(file: Path, device_id: str) -> bool:
    try:
        with contextlib.closing(IndexFile(file)) as index, index.reading():
            return index.knows(pack_uuid(device_id))
    except Unusable:
        # It cannot be read, so it might hold the device. It is derived from git, so remove it.
        delete_file(file)
        return False


def forget_tenant(path: Path) -> bool:
    """Erase a tenant's repository whole; durable when this returns.

    The repository is renamed first, in one step; what a killed call left is deleted too.

    Args:
        path: where the repository is or was.

    Returns:
        Whether there was anything.

    Raises:
        RepositoryBusy: another process writes; nothing was changed.
        StoreUnavailable: the file system refused; call again.
        ErasureIncomplete: something is there still.
    """
    there = False
    with durable.file_system_errors(path.name):
        if not path.parent.is_dir():
            raise no_repository(path)
        if path.is_dir():
            there = True
            ownership.require_writer(path)
            with flock.alone(path):
                durable.rename(path, durable.temporary_name(path.parent, f".{path.name}."))
                durable.sync_directory(path.parent)
                durable.failpoint("repository-unnamed")
        for name in _asides(path):
            there = True
            shutil.rmtree(path.parent / name)
        durable.sync_directory(path.parent)
    left = [*_asides(path), *([path.name] if path.exists() else [])]
    if left:
        raise ErasureIncomplete(f"{', '.join(left)} is still there")
    return there


def _asides(path: Path) -> list[str]:
    return [name for name in os.listdir(path.parent) if name.startswith(f".{path.name}.")]
