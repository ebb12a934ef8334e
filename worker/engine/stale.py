"""Looks for devices whose newest backup is too old, and tells of each change as an event."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import StoreError, TenantLocked
from confkeep.observe.logs import get_logger
from confkeep.queue import events
from confkeep.settings import Settings
from worker.engine import untold
from worker.engine.directory import names_at
from worker.engine.hold import hold_tenant
from worker.queue.inbox import Inbox
from worker.store.history.index import open_index
from worker.store.repository.reader import devices_of
from worker.store.repository.tenant_repository import open_repository, repository_path, tenants_of

log = get_logger("stale")

_HOUR_S: Final = 3_600
#: Devices noted in one step of the server.
_AT_ONCE: Final = 200


def note_shard(client: redis.Redis, settings: Settings, shard: int) -> None:
    """Note the stale devices of a shard's tenants in this store. One that cannot be read is left out.

    What a killed process left untold is told too.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    for tenant_id in untold.left_in(settings.git_store_path):
        if keys.shard_of(tenant_id, settings.shards) == shard:
            # Who holds it tells what is left; a holder that lives tells it by itself.
            with suppress(TenantLocked), hold_tenant(settings, tenant_id, wait_s=0):
                pass
    for tenant_id in tenants_of(settings.git_store_path):
        if keys.shard_of(tenant_id, settings.shards) != shard:
            continue
        try:
            note_tenant(Inbox(client, settings, tenant_id))
        except StoreError as error:
            log.warning(
                "a tenant cannot be read to find its stale devices",
                action="stale.unread",
                tenant_id=tenant_id,
                error=str(error),
            )


def note_tenant(inbox: Inbox, now_s: int | None = None) -> None:
    """Note a tenant's stale devices, and tell which are stale or fresh since the last look.

    Args:
        now_s: seconds since 1970; None: now.

    Raises:
        StoreError: the repository cannot be read.
        BrokerUnavailable: Redis did not answer; call again.
    """
    now_s = int(time.time()) if now_s is None else now_s
    seen = last_backups(repository_path(inbox.settings.git_store_path, inbox.tenant_id))
    oldest_s = now_s - inbox.settings.stale_hours * _HOUR_S
    stale = {
        device: int(at.timestamp())
        for device, at in seen.items()
        if at is not None and at.timestamp() < oldest_s
    }
    found = redis_values.answer(inbox.client.hgetall, keys.stale(inbox.tenant_id))
    # Anybody may write to the server: what is no device, or no date, goes.
    noted = {
        redis_values.name_of(name): redis_values.name_of(text)
        for name, text in (found or {}).items()
    }
    changed: dict[str, int | None] = {
        device: at_s for device, at_s in stale.items() if noted.get(device) != str(at_s)
    }
    changed |= dict.fromkeys(noted.keys() - stale.keys())
    if changed:
        _note(inbox, changed, seen)


def last_backups(path: Path) -> dict[str, dt.datetime | None]:
    """When each device of the newest commit was last backed up; None if git does not tell.

    Raises:
        StoreError: the repository cannot be read.
    """
    repository = open_repository(path)
    with open_index(repository) as index:
        seen = index.all_last_seen(repository.tip())
    return {device_id: seen.get(device_id) for device_id in devices_of(repository)}


def _note(
    inbox: Inbox,
    changed: Mapping[str, int | None],
    seen: Mapping[str, dt.datetime | None],
) -> None:
    settings, tenant_id = inbox.settings, inbox.tenant_id
    names = names_at(repository_path(settings.git_store_path, tenant_id))
    arguments: list[bytes | str] = []
    for device, stale_s in sorted(changed.items()):
        last = seen.get(device)
        told = ""
        if last is not None:
            called = names.get(device)
            told = events.new(
                events.FRESH if stale_s is None else events.STALE,
                tenant_id,
                device,
                data={
                    "device_name": None if called is None else called.name,
                    "last_backup_at": last.isoformat(),
                    "stale_hours": settings.stale_hours,
                },
                about=(tenant_id, device, int(last.timestamp())),
            ).to_json()
        arguments += [redis_values.raw_name(device), "" if stale_s is None else str(stale_s), told]
    with broker_errors():
        for start in range(0, len(arguments), 3 * _AT_ONCE):
            chunk = arguments[start : start + 3 * _AT_ONCE]
            scripts.load("note_stale").run(
                inbox.client, [keys.stale(tenant_id), keys.EVENTS], [settings.events_max, *chunk]
            )
