"""Wake-ups: outdated only when the tenant's place is at the tail already."""

from __future__ import annotations

import uuid
from typing import Any

import redis

from confkeep.broker import keys
from confkeep.queue import wakeups

TENANT = str(uuid.UUID(int=1))


def flag(client: redis.Redis) -> bytes | None:
    found: Any = client.get(keys.wake(TENANT))
    return found  # type: ignore[no-any-return]


def test_a_turns_own_wake_up_outdates_those_before_it_and_no_other(client: redis.Redis) -> None:
    own_ms = wakeups.flag_by_turn(client, TENANT)
    assert own_ms is not None
    assert wakeups.is_outdated(flag(client), own_ms - 1)
    assert not wakeups.is_outdated(flag(client), own_ms)
    assert not wakeups.is_outdated(flag(client), None), "a person's kick is always answered"
    wakeups.clear(client, TENANT)
    assert not wakeups.is_outdated(flag(client), own_ms - 1)


def test_a_later_enqueue_does_not_take_a_tenants_place_in_the_queue(client: redis.Redis) -> None:
    # In a queue that takes longer than the flag lives.
    client.set(keys.wake(TENANT), 5_000)
    assert not wakeups.is_outdated(flag(client), 1_000)


def test_a_turn_sends_none_when_an_enqueue_has(client: redis.Redis) -> None:
    client.set(keys.wake(TENANT), 5_000)
    assert wakeups.flag_by_turn(client, TENANT) is None


def test_one_sweep_claims_what_another_has_not(client: redis.Redis) -> None:
    assert wakeups.claim(client, TENANT, None, 7)
    assert not wakeups.claim(client, TENANT, None, 8)
    assert wakeups.claim(client, TENANT, b"7", 9)
    assert client.get(keys.wake(TENANT)) == b"9"
    assert 0 < client.pttl(keys.wake(TENANT)) <= 60_000
