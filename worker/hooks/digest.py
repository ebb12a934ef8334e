"""What a person wants to know of a tenant's last hours: what changed, and what needs a look."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from confkeep.routeros.export import configuration_of
from worker.engine.diff import masked_hunks
from worker.engine.directory import Called, Device, directory_of
from worker.engine.resolver import called_tenant
from worker.engine.versions import Row, Wanted, rows_of
from worker.masking.mask import mask
from worker.queue import dead_letters
from worker.store.repository.reader import find_commit, read_pair
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    tells_damage,
)

#: Most versions of a device that are looked at.
_MOST_VERSIONS: Final = 1_000
#: Most devices whose difference is made; those that changed last.
_MOST_DIFFS: Final = 100
#: Most bytes of a difference that are kept, before it is cut for a message.
_MOST_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Changed:
    """A device whose configuration changed. `--json` has the fields of this class, and of the others, by their names."""

    device: Called
    #: How often it changed, and when the last time.
    times: int
    changed_at: dt.datetime
    #: The commit of the newest version.
    commit: str
    #: It had no version before.
    new: bool
    #: Of all its changes together; None where no difference was made.
    diff: str | None


@dataclass(frozen=True, slots=True)
class Stale:
    """A device whose newest backup is too old."""

    device: Called
    #: None if git does not tell.
    last_backup_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A capture that looks bad or failed."""

    device: Called
    captured_at: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """A backup that cannot be committed."""

    device: Called | None
    backup_id: str
    died_at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Digest:
    """A tenant's last hours. Its differences are masked."""

    tenant: Called
    since: dt.datetime
    until: dt.datetime
    #: How many devices the tenant has.
    devices: int
    #: The last changed one first.
    changed: Sequence[Changed]
    stale: Sequence[Stale]
    suspect: Sequence[Suspect]
    dead: Sequence[Dead]

    @property
    def says_something(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.changed or self.stale or self.suspect or self.dead)


def digest_of(
    client: redis.Redis,
    path: Path,
    since: dt.datetime,
    *,
    stale_after_s: float,
    now: dt.datetime | None = None,
) -> Digest:
    """The digest of the tenant whose repository is at `path`.

    Args:
        since: from when on; versions count by the moment of their commits.
        stale_after_s: the age of its newest backup from which a device is stale; 0: none is.

    Raises:
        NotInStore, RepositoryDamaged, StoreUnavailable: the repository cannot be read.
        BrokerUnavailable: Redis did not answer.
    """
    until = now or dt.datetime.now(dt.UTC)
    tenant = called_tenant(path.parent, path.stem)
    # First, for the history of a large tenant takes seconds, and without the server they are in vain.
    letters = [
        letter for letter in dead_letters.list_dead_letters(client) if letter.tenant_id == tenant.id
    ]
    repository = open_repository(path)
    devices = directory_of(repository)
    changed, suspect = _changes(repository, devices, since)
    names = {device.called.id: device.called for device in devices}
    oldest = until - dt.timedelta(seconds=stale_after_s)
    stale = [
        Stale(device.called, device.seen_at)
        for device in devices
        if stale_after_s and (device.seen_at is None or device.seen_at < oldest)
    ]
    dead = [
        Dead(
            _called(names, letter.device_id, letter.device_name),
            letter.backup_id,
            letter.died_at,
            letter.reason,
        )
        for letter in letters
    ]
    return Digest(tenant, since, until, len(devices), changed, stale, suspect, dead)


def _called(names: dict[str, Called], device_id: str | None, label: str | None) -> Called | None:
    if device_id is None:
        return None
    return names.get(device_id) or Called(device_id, own_name=label)


@tells_damage
def _changes(
    repository: TenantRepository, devices: Sequence[Device], since: dt.datetime
) -> tuple[list[Changed], list[Suspect]]:
    changed: list[Changed] = []
    suspect: list[Suspect] = []
    for device in devices:
        if device.last.committed_at < since:
            continue
        rows = rows_of(repository, device.called.id, Wanted(limit=_MOST_VERSIONS))
        fresh = [row for row in rows if row.version.committed_at >= since]
        suspect += [
            # It may quote a line that somebody typed.
            Suspect(
                device.called, row.version.captured_at, mask(row.detail.suspect.encode()).decode()
            )
            for row in fresh
            if row.detail.suspect is not None
        ]
        configured = [row for row in fresh if row.detail.export_changed]
        if not configured:
            continue
        older = rows[len(fresh)] if len(rows) > len(fresh) else None
        hunks = None
        if len(changed) < _MOST_DIFFS:
            hunks = _hunks(repository, device.called, older, fresh[0])
        changed.append(
            Changed(
                device.called,
                len(configured),
                configured[0].version.committed_at,
                fresh[0].version.sha,
                older is None,
                hunks,
            )
        )
    return changed, suspect


def _hunks(repository: TenantRepository, device: Called, older: Row | None, newest: Row) -> str:
    """What changed between two versions, masked; of a new device nothing, since all of it is new."""
    if older is None:
        return ""
    old, new = (
        read_pair(repository, find_commit(repository, row.version.sha), device.id).export or b""
        for row in (older, newest)
    )
    found = masked_hunks(
        configuration_of(old), configuration_of(new), context=1, model=device.labels.model
    )
    return found[:_MOST_BYTES].decode("utf-8", "replace")
