"""Looks up in the background what the exporter says of the store: sizes and stale devices."""

from __future__ import annotations

import bisect
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from confkeep.errors import StoreError
from confkeep.observe.logs import get_logger
from worker.engine.stale import last_backups
from worker.figures.metric_families import Sample
from worker.observe import metrics, unforeseen
from worker.store.git import refs
from worker.store.git.pack_set import names_of
from worker.store.repository import description
from worker.store.repository.tenant_repository import repository_path, tenants_of
from worker.store.upkeep.repack_state import disk_bytes, free_bytes, read_state

log = get_logger("exporter")


@dataclass(frozen=True, slots=True)
class _Devices:
    """When a tenant's devices were last backed up, as of one commit."""

    tip: str | None
    #: Seconds since 1970, ascending, 8 bytes for each device. A device of unknown date is a 0, so it
    #: comes first.
    seen_s: array[float]


@dataclass(frozen=True, slots=True)
class _Repository:
    packs: int
    bytes: int
    skipped: bool


class StoreFigures:
    """Looks through the store and remembers what it found. `look` in one thread at a time.

    For a tenant whose branch has not moved, a look reads only its ref, and its packs' names and sizes. Of
    the others it reads the devices again from the history index.
    """

    def __init__(self, store: Path, *, stale_after_s: float, worst: int) -> None:
        self._store = store
        self._stale_after_s = stale_after_s
        self._worst = worst
        self._devices: dict[str, _Devices] = {}
        #: Of the tenants that have one.
        self._names: dict[str, str] = {}
        #: None if there is no store, or before the first look.
        self._found: list[Sample] | None = None
        self._looked_s = 0.0

    def run(self, interval_s: float, stop: threading.Event) -> None:
        """Look at once and then at every interval, until `stop` is set."""
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - else they would stay as old as now
                unforeseen.note(log, "store figures", "look through the store", error)
                self._found = None
            if stop.wait(interval_s):
                return

    def look(self) -> None:
        """Look through the whole store once. A repository that cannot be read is counted as such."""
        try:
            self._found = list(self._look()) if self._store.is_dir() else None
        except OSError:
            # The store itself is gone by now: there are no figures until it is back.
            self._found = None
        self._looked_s = time.monotonic()

    def samples(self) -> Iterator[Sample]:
        """What the last look found; nothing where there is no store."""
        found = self._found
        if found is not None:
            yield from found
            yield Sample(metrics.STORE_AGE, time.monotonic() - self._looked_s)

    def names(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """What the tenants of these samples are called, as the last look found it. Reads nothing."""
        tenants = {
            value
            for sample in samples
            for label, value in zip(sample.metric.labels, sample.labels, strict=True)
            if label == "tenant"
        }
        for tenant_id in sorted(tenants):
            name = self._names.get(tenant_id, tenant_id)
            yield Sample(metrics.TENANT_INFO, 1, (tenant_id, name))

    def _look(self) -> Iterator[Sample]:
        tenants = tenants_of(self._store)
        before = time.time() - self._stale_after_s
        devices = stale = unreadable = 0
        repositories: dict[str, _Repository] = {}
        self._devices = {t: self._devices[t] for t in tenants if t in self._devices}
        names = {t: description.read_name(repository_path(self._store, t)) for t in tenants}
        self._names = {t: name for t, name in names.items() if name is not None}
        for tenant_id in tenants:
            path = repository_path(self._store, tenant_id)
            try:
                repositories[tenant_id] = _repository(path)
                seen_s = self._seen(tenant_id, path)
            except (StoreError, OSError):
                unreadable += 1
                continue
            devices += len(seen_s)
            stale += bisect.bisect_left(seen_s, before)
        yield Sample(metrics.TENANTS, len(tenants))
        yield Sample(metrics.DEVICES, devices)
        yield Sample(metrics.STALE, stale)
        yield Sample(metrics.UNREADABLE, unreadable)
        yield Sample(metrics.SKIPPED, sum(one.skipped for one in repositories.values()))
        yield Sample(metrics.STORE_BYTES, sum(one.bytes for one in repositories.values()))
        yield Sample(metrics.STORE_FREE, free_bytes(self._store))
        yield Sample(metrics.STORE_DISK, disk_bytes(self._store))
        by_packs = sorted(repositories.items(), key=lambda item: item[1].packs, reverse=True)
        for tenant_id, one in by_packs[: self._worst]:
            yield Sample(metrics.PACKS, one.packs, (tenant_id,))
        by_bytes = sorted(repositories.items(), key=lambda item: item[1].bytes, reverse=True)
        for tenant_id, one in by_bytes[: self._worst]:
            yield Sample(metrics.REPOSITORY_BYTES, one.bytes, (tenant_id,))

    def _seen(self, tenant_id: str, path: Path) -> array[float]:
        tip = refs.read_main(path)
        known = self._devices.get(tenant_id)
        if known is None or tip is None or known.tip != tip:
            # The tip is read first, so that the next look sees what is committed meanwhile.
            found = last_backups(path).values()
            seen_s = sorted(0.0 if last is None else last.timestamp() for last in found)
            known = self._devices[tenant_id] = _Devices(tip, array("d", seen_s))
        return known.seen_s


def _repository(path: Path) -> _Repository:
    packs = names_of(path / "objects" / "pack")
    return _Repository(len(packs), sum(packs.values()), bool(read_state(path).skipped))
