"""Keeps the directories of tenants in memory: each as of one commit, and brought to the newest one when asked for."""

from __future__ import annotations

import datetime as dt
import threading
from bisect import bisect_left, insort
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

from confkeep.errors import NotInStore
from confkeep.labels import NO_LABELS
from worker.engine.directory import Called, Device, directory_of, last_changes, suspects
from worker.reading.answers import CommitEntry, DeviceEntry
from worker.reading.commits import commits_after
from worker.reading.directory_page import place_of
from worker.store.history.index import open_index
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: Devices in all that are kept; each takes some 1 KB.
_MOST_DEVICES: Final = 25_000
#: Commits that are gone through one by one; beyond, the directory is made anew.
_MOST_COMMITS: Final = 300


@dataclass(frozen=True, slots=True)
class Listed:
    """A directory as of one commit. Nobody changes it."""

    tip: str
    #: Sorted by name.
    devices: list[DeviceEntry]
    by_id: dict[str, DeviceEntry]
    called: dict[str, Called]
    #: The ids of the devices' folders in git; a root tree of 10,000 devices takes 4 ms to read.
    folders: dict[str, str]


class Directories:
    """The last used directories. Thread-safe: one thread makes a directory, others wait for it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Listed] = OrderedDict()
        self._lock = threading.Lock()
        self._making: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get(self, repository: TenantRepository) -> Listed:
        """The directory as of the newest commit.

        Raises:
            StoreError: the repository cannot be read.
        """
        name, tip = repository.path.name, str(repository.tip())
        with self._lock:
            found = self._kept.get(name)
            making = self._making[name]
        if found is not None and found.tip == tip:
            return found
        with making:
            with self._lock:
                found = self._kept.get(name)
            if found is None or found.tip != tip:
                found = (None if found is None else follow(repository, found)) or make(repository)
            with self._lock:
                self._kept[name] = found
                self._kept.move_to_end(name)
                while (
                    len(self._kept) > 1
                    and sum(len(each.devices) for each in self._kept.values()) > _MOST_DEVICES
                ):
                    gone, _ = self._kept.popitem(last=False)
                    self._making.pop(gone, None)
        return found


@tells_damage
def make(repository: TenantRepository) -> Listed:
    """The directory, from the history index and the newest root tree."""
    tip = str(repository.tip())
    found = directory_of(repository)
    changes, bad = last_changes(repository), suspects(repository)
    entries = {
        each.called.id: _entry_of(each, changes.get(each.called.id), bad.get(each.called.id))
        for each in found
    }
    return Listed(
        tip,
        sorted(entries.values(), key=place_of),
        entries,
        {each.called.id: each.called for each in found},
        {each.called.id: each.folder for each in found},
    )


@tells_damage
def follow(repository: TenantRepository, known: Listed) -> Listed | None:
    """The directory, from an earlier one and the commits since; None where these do not tell it."""
    try:
        page = commits_after(repository, known.tip, _MOST_COMMITS)
    except NotInStore:
        return None
    if page.more or page.head is None or any(_is_foreign(commit) for commit in page.commits):
        return None
    touched = {commit.device_id for commit in page.commits if commit.device_id is not None}
    with open_index(repository) as index:
        labels = index.labels(page.head, touched)
        own_names = index.own_names(page.head, touched)
        changed = {commit.device_id for commit in page.commits if commit.changed}
        export_changes = index.last_changes(page.head, touched & changed)
        bad = index.suspects(page.head, touched & changed)
    tree = find_commit(repository, page.head).tree
    devices, by_id = [*known.devices], {**known.by_id}
    called, folders = {**known.called}, {**known.folders}
    for device in touched:
        commits = [commit for commit in page.commits if commit.device_id == device]
        before = by_id.get(device)
        changes = [commit for commit in commits if commit.changed]
        if before is None and not changes:
            continue  # a tenant's own name
        if device not in tree:
            return None
        now = Called(device, labels.get(device, NO_LABELS), own_names.get(device))
        after = _entry_after(
            now, before, commits, changes, export_changes.get(device), bad.get(device)
        )
        if before is not None:
            del devices[bisect_left(devices, place_of(before), key=place_of)]
        insort(devices, after, key=place_of)
        by_id[device], called[device], folders[device] = after, now, str(tree[device].id)
    return Listed(page.head, devices, by_id, called, folders)


def _is_foreign(commit: CommitEntry) -> bool:
    """Whether something else than confkeep wrote it: it may have changed many devices."""
    return commit.kind == "other" or commit.device_id is None


def _entry_after(
    called: Called,
    before: DeviceEntry | None,
    commits: list[CommitEntry],
    changes: list[CommitEntry],
    export_changed_at: dt.datetime | None,
    suspect: str | None,
) -> DeviceEntry:
    captures = [commit for commit in commits if commit.kind == "backup"]
    seen = None if before is None else before.last_backup_at
    if captures:
        seen = captures[-1].committed_at
    if not changes:
        assert before is not None
        return replace(before, **_labels(called), last_backup_at=seen)
    last = changes[-1]
    return DeviceEntry(
        **_labels(called),
        versions=(0 if before is None else before.versions) + len(changes),
        sha=last.sha,
        message=last.message,
        changed_at=last.committed_at,
        export_changed_at=export_changed_at,
        last_backup_at=seen,
        suspect=suspect,
    )


def _entry_of(
    device: Device, export_changed_at: dt.datetime | None, suspect: str | None
) -> DeviceEntry:
    return DeviceEntry(
        **_labels(device.called),
        versions=device.versions,
        sha=device.last.sha,
        message=device.last.raw_message.decode("utf-8", "replace"),
        changed_at=device.last.committed_at,
        export_changed_at=export_changed_at,
        last_backup_at=device.seen_at,
        suspect=suspect,
    )


def _labels(called: Called) -> dict[str, Any]:
    """What an entry says of its device's names."""
    labels = called.labels
    return {
        "device_id": called.id,
        "name": called.name,
        "own_name": called.own_name,
        "address": labels.address,
        "model": labels.model,
        "group": labels.group,
    }
