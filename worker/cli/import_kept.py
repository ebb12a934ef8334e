"""Finds which captures of an import the store has, and which are older than its newest ones.

Backups are committed in the order in which they are handed over. A capture that is older than its
device's newest one in the store would become the newest version there, which `show`, `restore` and
`diff` then give.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from confkeep.errors import InvalidBackup, NotInStore, StoreMissing
from worker.cli.sending import payload_of
from worker.cli.sources.captures import Capture
from worker.engine.versions import captured_at, versions_of
from worker.store.repository.backup import EXPORT_NAME
from worker.store.repository.headers import (
    BACKUP_ID_HEADER,
    DEVICE_ID_HEADER,
    id_in_header,
    is_naming,
)
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    tells_damage,
)


@dataclass(frozen=True, slots=True)
class Older:
    """New captures of a device that are older than the newest one that is kept."""

    device_id: str
    captures: int
    #: Where the oldest of them is in the source.
    place: str
    captured_at: dt.datetime
    newest_kept: dt.datetime


@dataclass(slots=True)
class Kept:
    """What the store has of an import's captures."""

    #: The backup_ids in it.
    ids: set[str] = field(default_factory=set)
    older: list[Older] = field(default_factory=list)
    #: Captures that are kept under another id, with the same date and text: the source's history
    #: was rewritten, or its files renamed.
    other_ids: int = 0


def look(store: Path, captures: Sequence[Capture]) -> Kept:
    """Compare an import with the repositories below `store`; walks their whole history.

    Where the id is made from an export's bytes, only exports older than their device's newest one
    are read.
    """
    kept = Kept()
    by_tenant: defaultdict[str, list[Capture]] = defaultdict(list)
    for capture in captures:
        by_tenant[capture.row.tenant_id].append(capture)
    for tenant_id, its in by_tenant.items():
        try:
            repository = open_repository(repository_path(store, tenant_id))
        except (StoreMissing, NotInStore):
            continue
        _look(repository, its, kept)
    return kept


@tells_damage
def _look(repository: TenantRepository, captures: Iterable[Capture], kept: Kept) -> None:
    ids, newest = _read(repository)
    kept.ids |= ids
    by_device: defaultdict[str, list[Capture]] = defaultdict(list)
    for capture in captures:
        by_device[capture.row.device_id].append(capture)
    gone = repository.ids.get(repository.path, repository.git)
    for device_id, its in by_device.items():
        latest = newest.get(device_id) or _newest_version(repository, device_id)
        if latest is None:
            continue
        unknown = {
            backup_id: capture
            for capture in its
            if capture.captured_at < latest
            and (backup_id := _id_of(capture)) is not None
            and backup_id not in ids
        }
        removed = {} if gone is None else gone.removed_backups(unknown)
        known = _versions(repository, device_id) if unknown.keys() - removed.keys() else set()
        older: list[Capture] = []
        for backup_id, capture in unknown.items():
            if backup_id in removed:
                kept.ids.add(backup_id)
            elif (blob := _blob_of(capture)) is None:
                continue  # refused, as the import before this one did
            elif (capture.captured_at, blob) in known:
                kept.ids.add(backup_id)
                kept.other_ids += 1
            else:
                older.append(capture)
        if older:
            oldest = min(older, key=lambda capture: capture.captured_at)
            kept.older.append(
                Older(device_id, len(older), oldest.place, oldest.captured_at, latest)
            )


def _read(repository: TenantRepository) -> tuple[set[str], dict[str, dt.datetime]]:
    """All backup_ids in git, and the date of each device's newest capture, changed or not."""
    ids: set[str] = set()
    newest: dict[str, dt.datetime] = {}
    tip = repository.tip()
    for commit in repository.git.walk(tip) if tip is not None else ():
        raw = commit.read_raw()
        backup_id = id_in_header(raw, BACKUP_ID_HEADER)
        device_id = id_in_header(raw, DEVICE_ID_HEADER)
        if backup_id is not None:
            ids.add(backup_id)
        if device_id is not None and device_id not in newest and not is_naming(raw):
            newest[device_id] = captured_at(commit)
    return ids, newest


def _newest_version(repository: TenantRepository, device_id: str) -> dt.datetime | None:
    """The date of a device's newest version; for devices that no commit names in its header."""
    for version in versions_of(repository, device_id, 1):
        return version.captured_at
    return None


def _versions(repository: TenantRepository, device_id: str) -> set[tuple[dt.datetime, str]]:
    """(date, object id of the export) of each version of a device."""
    found = set()
    for version in versions_of(repository, device_id):
        commit = find_commit(repository, version.sha)
        try:
            blob = commit.tree[f"{device_id}/{EXPORT_NAME}"]
        except KeyError:
            continue
        found.add((captured_at(commit), str(blob.id)))
    return found


def _id_of(capture: Capture) -> str | None:
    """A capture's backup_id; None if it is made from the bytes, and they cannot be read or are too many."""
    if capture.known_id is not None:
        return capture.known_id
    try:
        return capture.backup_id(*capture.read())
    except (InvalidBackup, OSError):
        return None


def _blob_of(capture: Capture) -> str | None:
    """The object id of a capture's export; None if the capture would be refused."""
    try:
        payload = payload_of(capture, labelled=False)
    except (InvalidBackup, OSError):
        return None
    return str(pygit2.hash(payload.export_text))
