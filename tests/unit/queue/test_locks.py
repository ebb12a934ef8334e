"""The tenant lock: one holder, renewed while held, given back, and known to be lost."""

from __future__ import annotations

import threading
import time
import uuid
from types import SimpleNamespace
from typing import cast

import pytest
import redis
from redis.exceptions import ConnectionError as NotConnected
from redis.lock import Lock

from confkeep.broker import keys
from tests.servers import wait_for
from tests.turns import TENANT, try_lock
from worker.broker import locks

#: A lock's life by a clock of the test's own.
_SHORT_S = 0.02


def test_one_process_at_a_time_holds_it(client: redis.Redis) -> None:
    held = try_lock(client, TENANT, 5)
    assert held is not None
    assert try_lock(client, TENANT, 5) is None
    held.release()
    again = try_lock(client, TENANT, 5)
    assert again is not None
    again.release()
    assert not client.exists(keys.lock(TENANT))


def test_other_tenants_are_not_concerned(client: redis.Redis) -> None:
    held = [try_lock(client, str(uuid.UUID(int=n)), 5) for n in range(3)]
    assert all(held)
    for lock in held:
        assert lock is not None
        lock.release()


def test_it_is_renewed_while_it_is_held(client: redis.Redis) -> None:
    held = try_lock(client, TENANT, 3.0)
    assert held is not None
    client.pexpire(keys.lock(TENANT), 2_200)
    wait_for(lambda: client.pttl(keys.lock(TENANT)) > 2_200, "the renewal")
    assert not held.lost
    held.release()


def test_a_holder_learns_that_it_lost_it_and_leaves_the_next_one_alone(
    client: redis.Redis,
) -> None:
    held = try_lock(client, TENANT, 0.4)
    assert held is not None
    client.set(keys.lock(TENANT), "somebody else")
    wait_for(lambda: held.lost, "the loss to be noticed")
    held.release()
    assert client.get(keys.lock(TENANT)) == b"somebody else"


def test_one_thread_renews_all_that_a_process_holds(client: redis.Redis) -> None:
    before = set(threading.enumerate())
    for n in range(20):
        held = [try_lock(client, str(uuid.UUID(int=2 * n + each)), 7.5) for each in range(2)]
        assert len(set(threading.enumerate()) - before) <= 1
        for lock in held:
            assert lock is not None
            lock.release()


@pytest.mark.parametrize("ttl_s", [0.3])
def test_it_expires_when_its_holder_dies(client: redis.Redis, ttl_s: float) -> None:
    # What a killed process leaves: the key with its life, and nobody who renews it.
    client.set(keys.lock(TENANT), "a dead process", px=int(ttl_s * 1000))
    taken: list[locks.TenantLock] = []

    def take() -> bool:
        lock = try_lock(client, TENANT, 5)
        if lock is not None:
            taken.append(lock)
        return lock is not None

    wait_for(take, "the dead holder's lock to expire")
    taken[0].release()


def test_a_renewal_that_meets_what_nobody_foresaw_goes_on(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = try_lock(client, TENANT, 1.0)
    assert held is not None
    reacquire, calls = Lock.reacquire, []

    def fail_twice(self: Lock) -> bool:
        calls.append(1)
        if len(calls) <= 2:
            raise RecursionError("nobody foresaw it")
        return reacquire(self)

    monkeypatch.setattr(Lock, "reacquire", fail_twice)
    wait_for(lambda: len(calls) > 3, "the renewals to go on")
    assert not held.lost
    held.release()
    assert not client.exists(keys.lock(TENANT))


class _Away:
    """A lock whose server is away at each second renewal, or at all; each takes most of its life."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, always: bool) -> None:
        self.calls = 0
        self._always = always
        monkeypatch.setattr(
            locks,
            "time",
            SimpleNamespace(monotonic=lambda: self.calls * 0.75 * _SHORT_S, sleep=time.sleep),
        )

    def reacquire(self) -> None:
        self.calls += 1
        if self._always or self.calls % 2:
            raise NotConnected("the server is away")

    def release(self) -> None:
        pass


@pytest.mark.parametrize("always", [False, True])
def test_a_server_that_is_away_ends_it_only_when_it_must_have_expired(
    monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    away = _Away(monkeypatch, always=always)
    held = locks.TenantLock(cast("Lock", away), _SHORT_S)
    if always:
        wait_for(lambda: held.lost, "the loss to be assumed")
        assert away.calls == 2, "it was tried for as long as it might have been ours"
    else:
        wait_for(lambda: away.calls > 8, "the renewals to go on")
        assert not held.lost
    held.release()
