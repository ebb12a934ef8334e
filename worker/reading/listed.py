"""Keeps the directories of tenants in memory, each for as long as its newest commit is the same."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Final

from worker.engine.directory import Called, Device, directory_of
from worker.reading.answers import DeviceEntry
from worker.reading.directory_page import place_of
from worker.store.repository.tenant_repository import TenantRepository

#: Devices in all that are kept; each takes some 2 KB.
_MOST_DEVICES: Final = 25_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A directory as of one commit."""

    tip: str
    #: Sorted by name.
    devices: list[DeviceEntry]
    by_id: dict[str, DeviceEntry]
    called: dict[str, Called]


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
            making = self._making[name]
        with making:
            with self._lock:
                found = self._kept.get(name)
            if found is None or found.tip != tip:
                found = _list(repository, tip)
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


def _list(repository: TenantRepository, tip: str) -> Listed:
    found = directory_of(repository)
    entries = {each.called.id: _entry_of(each) for each in found}
    return Listed(
        tip,
        sorted(entries.values(), key=place_of),
        entries,
        {each.called.id: each.called for each in found},
    )


def _entry_of(device: Device) -> DeviceEntry:
    called = device.called
    labels = called.labels
    return DeviceEntry(
        device_id=called.id,
        name=called.name,
        own_name=called.own_name,
        address=labels.address,
        model=labels.model,
        group=labels.group,
        versions=device.versions,
        sha=device.last.sha,
        message=printable(device.last.message),
        changed_at=device.last.committed_at,
        last_backup_at=device.seen_at,
    )


def printable(text: str) -> str:
    """Text of any bytes as text that JSON can hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
