"""All inboxes: which have entries, since when, and how much waits in them.

Each function that asks Redis raises BrokerUnavailable if it does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.settings import Settings

#: Part of the limits from which on a person should look.
_NEARLY_FULL: Final = 0.8


@dataclass(frozen=True, slots=True)
class InboxStatus:
    """A non-empty inbox."""

    tenant_id: str
    entries: int
    #: Seconds that its oldest entry has waited, by the server's clock.
    oldest_age_s: float


def list_inboxes(client: redis.Redis, limit: int | None = None) -> list[InboxStatus]:
    """The non-empty inboxes, those with the oldest entries first."""
    now_ms = server_time_ms(client)
    since_ms = _since_ms(client, -1 if limit is None else limit - 1)
    pipe = client.pipeline(transaction=False)
    for tenant_id in since_ms:
        pipe.xlen(keys.inbox(tenant_id))
    inboxes = [
        InboxStatus(tenant_id, length, max(0.0, (now_ms - since_ms[tenant_id]) / 1000))
        for tenant_id, length in zip(since_ms, redis_values.answers(pipe), strict=True)
        if length
    ]
    inboxes.sort(key=lambda box: -box.oldest_age_s)
    return inboxes


def _since_ms(client: redis.Redis, last: int) -> dict[str, float]:
    """The tenants that wait, and since when."""
    rows = redis_values.answer(client.zrange, keys.WAITING, 0, last, withscores=True)
    tenants = ((redis_values.tenant_of(name), since) for name, since in rows or ())
    return {
        tenant: max(0, min(since, redis_values.LAST_MS))
        for tenant, since in tenants
        if tenant is not None
    }


def waiting_tenants(client: redis.Redis) -> list[str]:
    """The tenants whose inboxes are not empty, those with the oldest entries first."""
    return list(_since_ms(client, -1))


def count_inboxes(client: redis.Redis) -> int:
    """Count the inboxes that have entries."""
    return redis_values.answer(client.zcard, keys.WAITING) or 0


@dataclass(frozen=True, slots=True)
class Load:
    """How much waits in all inboxes."""

    entries: int
    bytes: int
    #: The bytes that wait for each tenant.
    tenant_bytes: dict[str, int]
    #: Most bytes that fit the server's memory, as workers noted it; None if it has no limit.
    room: int | None = None

    def most_bytes(self, settings: Settings) -> int:
        """Most bytes that may wait for all tenants."""
        if self.room is None or settings.staging != "redis":
            return settings.total_max_bytes
        return min(self.room, settings.total_max_bytes)

    def nearly_full(self, settings: Settings) -> bool:
        """Whether a person should look: little is left of the limits."""
        return self.full(settings) >= _NEARLY_FULL

    def full(self, settings: Settings) -> float:
        """The part of the limits on all tenants that is taken; 1 is full."""
        return max(
            self.entries / settings.total_max_backups, self.bytes / self.most_bytes(settings)
        )


def read_load(client: redis.Redis) -> Load:
    """What waits in all."""
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(keys.LOAD)
    pipe.get(keys.ROOM)
    counts, room = redis_values.answers(pipe)
    numbers = {name: redis_values.count_of(value) for name, value in (counts or {}).items()}
    entries, size = numbers.pop(b"entries", 0), numbers.pop(b"bytes", 0)
    of_tenants = {redis_values.tenant_of(name): number for name, number in numbers.items()}
    tenant_bytes = {name: number for name, number in of_tenants.items() if name is not None}
    most = redis_values.number_of(room)
    return Load(entries, size, tenant_bytes, most if most > 0 else None)


def queue_depths(client: redis.Redis, settings: Settings) -> dict[int, int]:
    """Count the wake-ups in each shard's two queues."""
    pipe = client.pipeline(transaction=False)
    for shard in range(settings.shards):
        pipe.llen(keys.shard_queue(shard))
        pipe.llen(keys.high_queue(shard))
    lengths = [length or 0 for length in redis_values.answers(pipe)]
    return {shard: sum(lengths[2 * shard : 2 * shard + 2]) for shard in range(settings.shards)}


def server_time_ms(client: redis.Redis) -> int:
    """The server's clock in ms since 1970; all times in Redis use it."""
    with broker_errors():
        now: Any = client.time()
    return int(now[0]) * 1000 + int(now[1]) // 1000


def has_entry(client: redis.Redis, backup_id: str, record: Mapping[str, Any]) -> bool:
    """Whether the entry that a waiting backup's record names is there.

    True also if an earlier release wrote the record: then nobody can tell.
    """
    tenant_id, stream_id = record.get("tenant"), record.get("entry")
    if not isinstance(tenant_id, str) or not isinstance(stream_id, str):
        return True
    with broker_errors():
        rows: Any = client.xrange(keys.inbox(tenant_id), stream_id, stream_id)
    return any(backup_id.encode() in fields.get(b"entry", b"") for _id, fields in rows)
