"""Wake-ups: outdated only when the tenant's place is at the tail already."""

from __future__ import annotations

import uuid

import redis

from confkeep.broker import keys
from confkeep.queue import acceptance, wakeups
from confkeep.settings import Settings
from tests.unit.queue.test_inbox import submission
from worker.queue.inbox import Inbox

TENANT = str(uuid.UUID(int=1))


def is_answered(client: redis.Redis, settings: Settings, sent_ms: int | None) -> bool:
    begun = Inbox(client, settings, TENANT).begin("a turn", sent_ms)
    client.delete(keys.lock(TENANT))
    return begun.outcome == "begun"


def test_a_turns_own_wake_up_outdates_those_before_it_and_no_other(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1)])
    own_ms = Inbox(client, settings, TENANT).settle([], leave="now").at_ms
    assert not is_answered(client, settings, own_ms - 1)
    assert is_answered(client, settings, own_ms)
    assert is_answered(client, settings, None), "a person's kick is always answered"
    wakeups.clear(client, TENANT)
    assert is_answered(client, settings, own_ms - 1)


def test_a_later_enqueue_does_not_take_a_tenants_place_in_the_queue(
    client: redis.Redis, settings: Settings
) -> None:
    # In a queue that takes longer than the flag lives.
    client.set(keys.wake(TENANT), 5_000)
    assert is_answered(client, settings, 1_000)


def test_one_sweep_claims_what_another_has_not(client: redis.Redis) -> None:
    assert wakeups.claim(client, TENANT, None, 7)
    assert not wakeups.claim(client, TENANT, None, 8)
    assert wakeups.claim(client, TENANT, b"7", 9)
    assert client.get(keys.wake(TENANT)) == b"9"
    assert 0 < client.pttl(keys.wake(TENANT)) <= 60_000
