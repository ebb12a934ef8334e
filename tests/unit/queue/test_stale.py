"""A stale device is told once, and once when it is fresh again."""

from __future__ import annotations

import time

import redis

from confkeep.broker import keys
from confkeep.queue import acceptance, events
from confkeep.settings import Settings
from tests.turns import DEVICE, TENANT, submission
from tests.unit.queue.test_events import Reader
from worker.engine import drain, stale
from worker.queue.inbox import Inbox

_DAY_S = 86_400


def test_changes_are_told_once(client: redis.Redis, settings: Settings) -> None:
    def commit(number: int) -> None:
        acceptance.accept(client, settings, [submission(number)])
        drain.drain_inbox(Inbox(client, settings, TENANT))

    def look(days: float) -> list[str]:
        stale.note_tenant(Inbox(client, settings, TENANT), int(time.time() + days * _DAY_S))
        types = [events.STALE, events.FRESH]
        found = reader.read(types=types)
        assert all((one.tenant_id, one.device_id) == (TENANT, DEVICE) for one in found)
        return [one.type for one in found]

    reader = Reader(client, settings)
    commit(1)
    assert look(0) == []
    assert look(2) == [events.STALE]
    assert look(3) == []
    commit(2)
    assert look(0) == [events.FRESH]
    assert look(0) == []
    assert look(2) == [events.STALE]
    client.delete(keys.stale(TENANT))
    assert look(2) == [events.STALE], "Redis was emptied"
    assert reader.told[-1].id == reader.told[-2].id


def test_what_is_no_device_of_the_store_goes_untold(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1)])
    drain.drain_inbox(Inbox(client, settings, TENANT))
    client.hset(keys.stale(TENANT), mapping={b"gone": 1, b"\xff": b"\xff"})
    stale.note_shard(client, settings, keys.shard_of(TENANT, settings.shards))
    assert client.hgetall(keys.stale(TENANT)) == {}
    assert Reader(client, settings).read(types=[events.STALE, events.FRESH]) == []
