"""Reads a tenant's repository: files, versions and devices."""

from __future__ import annotations

import datetime as dt
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pygit2
from pygit2.enums import FileMode

from confkeep.errors import NotInStore, RemovedByRetention, RepositoryDamaged
from worker.store.git.checksums import unreadable_pack
from worker.store.repository.backup import (
    BINARY_NAME,
    EXPORT_NAME,
    FILE_NAMES,
    Version,
    checked_commit_id,
    checked_file_name,
    checked_uuid,
    pack_uuid,
)
from worker.store.repository.headers import (
    BACKUP_ID_HEADER,
    DEVICE_ID_HEADER,
    id_in_header,
    raw_message,
)
from worker.store.repository.tenant_repository import TenantRepository, damage, tells_damage

_ID_DIGITS: Final = 40
#: The name of a device's folder.
_DEVICE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: A date without its dashes, which reads as the beginning of a commit id.
_DATE: Final = re.compile(r"(19|20)\d\d((0[1-9]|1[0-2])([0-2]\d|3[01])?)?")
_WRITE_DASHES: Final = (
    "Digits alone stand for a commit: write a date with dashes, as in 2026-10-03."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files of a device in one commit; None if the commit does not hold that file."""

    export: bytes | None
    binary: bytes | None


@tells_damage
def find_commit(repository: TenantRepository, commit_sha: str) -> pygit2.Commit:
    """The commit with this full or abbreviated id.

    Raises:
        InvalidId: not 4 to 40 hexadecimal digits.
        NotInStore: no commit begins so, or more than one object does.
        RemovedByRetention: it was in the history, and is not any more.
        RepositoryDamaged: none begins so, but a pack is damaged that may hold it.
    """
    wanted = checked_commit_id(commit_sha)
    ids = repository.ids.get(repository.path, repository.git)
    fates = [] if ids is None else ids.fates(wanted)
    if not fates:
        return _existing(repository, wanted)
    # Old ids and present ids may begin alike.
    targets: set[bytes | None] = {fate.new for fate in fates}
    if len(wanted) < _ID_DIGITS:
        other = _existing_or_none(repository, wanted)
        if other is not None and bytes(other.id.raw) not in {fate.old for fate in fates}:
            targets.add(bytes(other.id.raw))
    if len(targets) > 1:
        raise NotInStore(f"commit {wanted} is ambiguous: give more digits")
    target = targets.pop()
    if target is None:
        raise RemovedByRetention(f"commit {wanted}: {removed_text(fates[0].removed_s)}")
    return _existing(repository, target.hex())


def removed_text(removed_s: int | None) -> str:
    """What an error says about something that retention removed."""
    date = dt.datetime.fromtimestamp(removed_s or 0, dt.UTC).strftime("%Y-%m-%d")
    return f"removed by retention on {date}"


def _existing_or_none(repository: TenantRepository, wanted: str) -> pygit2.Commit | None:
    try:
        found = repository.git.get(wanted)
    except ValueError as error:
        if len(wanted) == _ID_DIGITS:
            return None  # so libgit2 calls some damage too
        raise NotInStore(f"commit {wanted} is ambiguous: give more digits") from error
    except pygit2.GitError as error:
        raise RepositoryDamaged(f"object {wanted} cannot be read") from error
    if not isinstance(found, pygit2.Commit):
        return None
    return found


def _existing(repository: TenantRepository, wanted: str) -> pygit2.Commit:
    found = _existing_or_none(repository, wanted)
    if found is None:
        damaged = unreadable_pack(repository.path / "objects" / "pack")
        if damaged is not None:
            # Where people are told that a version is gone, nobody looks for damage.
            raise RepositoryDamaged(
                f"{repository.path.name}: {damaged} is damaged, so commit {wanted} cannot be found"
            )
        raise NotInStore(
            f"no commit {wanted} in {repository.path.name}",
            hint=_WRITE_DASHES if _DATE.fullmatch(wanted) else None,
        )
    return found


@tells_damage
def read_file(
    repository: TenantRepository, commit_sha: str, device_id: str, filename: str
) -> bytes:
    """A file of a device as it was in a commit, byte for byte.

    Raises:
        InvalidId: an argument is not of its kind.
        NotInStore: the commit, the device or the file is not there.
        RemovedByRetention: the commit or the file was there, and is not any more.
    """
    device = checked_uuid("device_id", device_id)
    name = checked_file_name(filename)
    commit = find_commit(repository, commit_sha)
    data = _file_in(repository, _device_tree_id(commit, device), name)
    if data is None:
        removed_s = _binary_removed_s(repository, commit, device) if name == BINARY_NAME else None
        text = f"no {name} of device {device} in commit {commit.id}"
        if removed_s is not None:
            raise RemovedByRetention(f"{text}: {removed_text(removed_s)}")
        raise NotInStore(text)
    return data


def _binary_removed_s(
    repository: TenantRepository, commit: pygit2.Commit, device_id: str
) -> int | None:
    raw = commit.read_raw()
    backup_id = id_in_header(raw, BACKUP_ID_HEADER)
    ids = repository.ids.get(repository.path, repository.git)
    if ids is None or backup_id is None or id_in_header(raw, DEVICE_ID_HEADER) != device_id:
        return None
    return ids.binary_removed_s(backup_id)


@tells_damage
def read_pair(repository: TenantRepository, commit: pygit2.Commit, device_id: str) -> Pair:
    """Both files of a device as they were in a commit; both None if the device is not in it."""
    return pair_in(repository, _device_tree_id(commit, device_id))


@tells_damage
def pair_in(repository: TenantRepository, folder: pygit2.Oid | str | None) -> Pair:
    """Both files in a device's folder, by the folder's id; both None if there is no folder."""
    return Pair(*(_file_in(repository, folder, name) for name in (EXPORT_NAME, BINARY_NAME)))


def read_change(
    repository: TenantRepository, commit: pygit2.Commit, device_id: str
) -> tuple[Pair, Pair]:
    """Both files of a device before a commit, in its first parent, and in it."""
    new = read_pair(repository, commit, device_id)
    if not commit.parent_ids:
        return Pair(None, None), new
    return read_pair(repository, commit.parents[0], device_id), new


def devices_of(repository: TenantRepository) -> list[str]:
    """The ids of all devices in the newest commit, sorted."""
    return sorted(folders_of(repository))


@tells_damage
def folders_of(repository: TenantRepository) -> dict[str, str]:
    """The ids of the devices in the newest commit, each with git's id of the device's folder."""
    tip = repository.tip()
    return {} if tip is None else folders_in(repository, _commit(repository, tip))


@tells_damage
def folders_in(_repository: TenantRepository, commit: pygit2.Commit) -> dict[str, str]:
    """The ids of the devices in a commit, each with git's id of the device's folder."""
    return {
        name: str(entry.id)
        for entry in commit.tree
        if isinstance(entry, pygit2.Tree) and (name := entry.name) and _DEVICE.fullmatch(name)
    }


def walk_versions(
    repository: TenantRepository, device_id: str, *, tip: pygit2.Oid | None = None
) -> Iterator[Version]:
    """The commits that changed a device's subtree, newest first, as `git log -- DEVICE` lists them.

    That is git's default simplification: a merge whose device is the same as in one of its parents
    is not listed, and only that parent is followed. Reads the tenant's whole history.

    Args:
        tip: where to begin; None: at the newest commit.
    """
    device = checked_uuid("device_id", device_id)
    with damage(repository.path):
        yield from _walk(repository, device, repository.tip() if tip is None else tip)


def _walk(repository: TenantRepository, device: str, tip: pygit2.Oid | None) -> Iterator[Version]:
    if tip is None:
        return
    seen = {tip}
    first = _commit(repository, tip)
    # Newest committer date first; if equal, the first found, as git does.
    heap = [(-first.commit_time, 0, first)]
    found = 0
    while heap:
        _time, _order, commit = heapq.heappop(heap)
        entry = _entry(commit, device)
        parents = [_commit(repository, parent) for parent in commit.parent_ids]
        same = [parent for parent in parents if _entry(parent, device) == entry]
        if same:
            parents = same[:1]
        elif parents or entry is not None:
            yield version_of(commit)
        for parent in parents:
            if parent.id not in seen:
                seen.add(parent.id)
                found += 1
                heapq.heappush(heap, (-parent.commit_time, found, parent))


def version_of(commit: pygit2.Commit) -> Version:
    """The version that a commit describes."""
    raw = commit.read_raw()
    backup_id = id_in_header(raw, BACKUP_ID_HEADER)
    return Version(
        commit.id.raw,
        commit.commit_time,
        commit.author.time,
        None if backup_id is None else pack_uuid(backup_id),
        raw_message(raw),
    )


@tells_damage
def find_backup_ids(
    repository: TenantRepository, backup_ids: frozenset[str], *, tip: pygit2.Oid
) -> dict[str, pygit2.Commit]:
    """Those of `backup_ids` that are in the history of `tip`, with their commits. Costs the whole history."""
    found: dict[str, pygit2.Commit] = {}
    for commit in repository.git.walk(tip):
        backup_id = id_in_header(commit.read_raw(), BACKUP_ID_HEADER)
        if backup_id in backup_ids:
            found[backup_id] = commit
            if len(found) == len(backup_ids):
                break
    return found


def _commit(repository: TenantRepository, commit_id: pygit2.Oid) -> pygit2.Commit:
    found = repository.git.get(commit_id)
    if not isinstance(found, pygit2.Commit):
        raise RepositoryDamaged(f"{repository.path.name}: commit {commit_id} is missing")
    return found


def _entry(commit: pygit2.Commit, device_id: str) -> tuple[pygit2.Oid, int] | None:
    """The id and mode under the device's name in a commit; None if there is no such entry."""
    try:
        entry = commit.tree[device_id]
    except KeyError:
        return None
    return entry.id, entry.filemode


def _device_tree_id(commit: pygit2.Commit, device_id: str) -> pygit2.Oid | None:
    entry = _entry(commit, device_id)
    return entry[0] if entry is not None and entry[1] == FileMode.TREE else None


def _file_in(
    repository: TenantRepository, tree_id: pygit2.Oid | str | None, name: str
) -> bytes | None:
    if tree_id is None:
        return None
    assert name in FILE_NAMES
    tree = repository.git[tree_id]
    assert isinstance(tree, pygit2.Tree)
    try:
        entry = tree[name]
    except KeyError:
        return None
    if not isinstance(entry, pygit2.Blob):
        return None
    return entry.data
