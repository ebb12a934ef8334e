"""The status of a deployment as JSON: what waits, who works and what failed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Final

from confkeep.broker.keys import shard_of
from confkeep.settings import Settings
from worker.engine.directory import Called, names_at
from worker.engine.resolver import called_tenant
from worker.figures.status_state import Status
from worker.process.waits import advice
from worker.queue.dead_letters import DeadLetter
from worker.queue.inboxes import InboxStatus
from worker.store.repository.tenant_repository import repository_path

#: What it says of a dead letter.
_OF_DEAD: Final = ("backup_id", "tenant_id", "device_id", "reason", "died_at")


def status_json(settings: Settings, status: Status) -> dict[str, object]:
    """The status as one JSON object, with what tenants and devices are called in the store."""
    load, store, at = status.load, status.store, settings.git_store_path
    names = {each: name for each in store.tenants if (name := called_tenant(at, each).name)}
    unnamed = {letter.tenant_id for letter in status.dead if not letter.device_name}
    devices = {each: names_at(repository_path(at, each)) for each in unnamed & {*store.tenants}}
    return {
        "tenants": store.tenants,
        "tenant_names": names,
        "broker_problems": status.broker_problems,
        "load": {
            "backups": load.entries,
            "bytes": load.bytes,
            "max_backups": settings.total_max_backups,
            "max_bytes": load.most_bytes(settings),
            "tenant_max_backups": settings.inbox_max_backups,
            "tenant_max_bytes": settings.inbox_max_bytes,
        },
        "workers": [dataclasses.asdict(worker) for worker in status.workers],
        "inboxes": [
            _inbox_json(box, names.get(box.tenant_id), settings, status) for box in status.inboxes
        ],
        "wakeups": status.depths,
        "dead_letters": [
            _dead_json(letter, names, devices.get(letter.tenant_id, {})) for letter in status.dead
        ],
        "odd": [dataclasses.asdict(one) for one in status.odd],
        "refused_messages": status.refused_messages,
        "astray": status.astray,
        "open_to_others": store.exposed,
        "maintenance": {"git": store.git, "skipped": store.skipped},
        "unreadable": store.unreadable
        | ({} if store.refusal is None else {"store": str(store.refusal)}),
    }


def _dead_json(
    letter: DeadLetter, names: Mapping[str, str], devices: Mapping[str, Called]
) -> dict[str, object]:
    device = devices.get(letter.device_id or "")
    return {
        **{name: getattr(letter, name) for name in _OF_DEAD},
        "tenant_name": names.get(letter.tenant_id),
        "device_name": letter.device_name or (device and device.name),
    }


def _inbox_json(
    box: InboxStatus, name: str | None, settings: Settings, status: Status
) -> dict[str, object]:
    wait = status.waits.get(box.tenant_id)
    return {
        **dataclasses.asdict(box),
        "tenant_name": name,
        "shard": shard_of(box.tenant_id, settings.shards),
        "bytes": status.load.tenant_bytes.get(box.tenant_id, 0),
        "stalled": wait is not None and wait.stalled,
        "failed_tries": 0 if wait is None else wait.tries,
        "reason": None if wait is None else wait.reason,
        "next_step": None if wait is None else advice(wait.reason, settings, box.tenant_id),
        "failing_since": None if wait is None else _date(wait.since_ms),
        "next_try": None if wait is None else _date(wait.next_ms),
    }


def _date(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
