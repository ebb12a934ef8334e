"""The sweep: forgotten inboxes of the own shards are woken once; the others are left alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable, StoreUnavailable
from confkeep.queue import acceptance, wakeups
from confkeep.settings import Settings
from tests.servers import wait_for
from tests.turns import lose_wake_ups, submission
from worker.engine import drain
from worker.observe import unforeseen
from worker.process import sweep_step, sweeper
from worker.process.broker_check import BrokerCheckStep
from worker.process.heartbeat import Mark
from worker.process.sweep_step import SweeperStep
from worker.process.sweeper import Sweeper
from worker.process.workers import list_workers, unserved
from worker.queue import backoff, inboxes, tidy
from worker.queue.backoff import Backoff, Noted
from worker.queue.inbox import Inbox, Settled


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tenants whose wake-ups were sent; the broker itself is Celery's."""
    tenants: list[str] = []
    monkeypatch.setattr(
        wakeups, "send", lambda _app, _settings, tenant, _ms, **_: tenants.append(tenant)
    )
    return tenants


def sweeper_of(client: redis.Redis, settings: Settings, name: str = "w") -> Sweeper:
    """A worker's, and the lease of the one before has expired."""
    for lease in client.keys(keys.sweep("*")):
        client.delete(lease)
    return Sweeper(None, settings, client, name)


def fail(client: redis.Redis, settings: Settings, tenant: str) -> Noted:
    """A turn of the tenant ends with a fault."""
    return backoff.failed(Inbox(client, settings, tenant), StoreUnavailable("no space"))


def wait_in(client: redis.Redis, settings: Settings, number: int) -> str:
    tenant = str(uuid.UUID(int=number))
    acceptance.accept(client, settings, [submission(number, tenant=tenant)])
    client.delete(keys.wake(tenant))
    lose_wake_ups(client)
    return tenant


def test_a_forgotten_inbox_is_woken_once(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    tenant = wait_in(client, settings, 1)
    assert [sweeper_of(client, settings, name).sweep() for name in "ab"] == [1, 0]
    assert sent == [tenant]
    client.set(keys.wake(tenant), 1)
    assert [sweeper_of(client, settings, name).sweep() for name in "ab"] == [1, 0]
    assert sent == [tenant, tenant], "a wake-up that got lost is sent again, by one"


def test_inboxes_that_somebody_cares_for_are_left_alone(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    woken, locked, failed = (wait_in(client, settings, n) for n in range(3))
    seconds, _ = client.time()
    client.set(keys.wake(woken), int(seconds) * 1000)
    client.set(keys.lock(locked), "token", px=60_000)
    fail(client, settings, failed)
    assert sweeper_of(client, settings).sweep() == 0
    client.hset(keys.backoff(failed), "next_ms", "1")
    assert sweeper_of(client, settings).sweep() == 1, "the sweep takes over a dead worker's retry"
    assert sent == [failed]


@pytest.mark.parametrize(
    ("ahead_ms", "may_begin", "is_woken"),
    [
        (-2_100, True, True),
        # A retry's own message comes first.
        (-100, True, False),
        (50_000, False, False),
        (100_000, False, False),
        # Further ahead than we ever wait: the clock was set back.
        (200_000, True, True),
    ],
)
def test_a_turn_and_the_sweep_ask_the_same_clock_whether_a_wait_is_over(
    client: redis.Redis,
    settings: Settings,
    sent: list[str],
    ahead_ms: int,
    may_begin: bool,
    is_woken: bool,
) -> None:
    tenant = wait_in(client, settings, 1)
    inbox = Inbox(client, settings, tenant)
    backoff.failed(inbox, StoreUnavailable("no space"))
    client.hset(keys.backoff(tenant), "next_ms", inboxes.server_time_ms(client) + ahead_ms)
    assert sweeper_of(client, settings).sweep() == int(is_woken)
    assert (inbox.begin("token", retry=False).outcome == "begun") is may_begin


def put_into_queue(client: redis.Redis, shard: int, tenants: list[str]) -> None:
    for tenant in tenants:
        headers = {"id": "x", "argsrepr": tenant}
        client.lpush(keys.shard_queue(shard), json.dumps({"body": "", "headers": headers}))


def test_a_wake_up_that_waits_in_a_long_queue_is_not_sent_again(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    waits, lost = wait_in(client, settings, 1), wait_in(client, settings, 2)
    for tenant in (waits, lost):
        shard = keys.shard_of(tenant, settings.shards)
        put_into_queue(client, shard, [str(uuid.uuid4()) for _ in range(3)])
    put_into_queue(client, keys.shard_of(waits, settings.shards), [waits])
    assert sweeper_of(client, settings).sweep() == 1
    assert sent == [lost]


def test_in_a_very_long_queue_each_tenant_is_woken_at_most_once_a_minute(
    client: redis.Redis, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_MOST_READ", 2)
    tenant = wait_in(client, settings, 1)
    put_into_queue(client, keys.shard_of(tenant, settings.shards), [tenant] * 3)
    assert [sweeper_of(client, settings).sweep() for _ in range(2)] == [1, 0]
    client.set(keys.wake(tenant), 1, px=60_000)
    assert sweeper_of(client, settings).sweep() == 0, "as long as the flag lives"
    assert sent == [tenant]


def test_each_worker_sweeps_its_own_shards(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    tenants = {wait_in(client, settings, n) for n in range(40)}
    for index in range(3):
        own = settings.model_copy(update={"worker_index": index, "worker_count": 3})
        before = len(sent)
        sweeper_of(client, own, f"w{index}").sweep()
        assert {keys.shard_of(tenant, 16) % 3 for tenant in sent[before:]} == {index}
    assert sorted(sent) == sorted(tenants)
    workers = list_workers(client)
    assert [worker.name for worker in workers] == ["w0", "w1", "w2"]
    assert sorted(shard for worker in workers for shard in worker.shards) == list(range(16))
    assert all(0 <= worker.last_sweep_age_s < 60 for worker in workers)


def test_one_worker_sweeps_for_all_until_it_ends_or_dies(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    first, second, third = (Sweeper(None, settings, client, name) for name in "abc")
    assert first.sweep() == 0
    tenant = wait_in(client, settings, 1)
    assert [one.sweep() for one in (second, third)] == [0, 0], "they only report themselves"
    assert [worker.name for worker in list_workers(client)] == ["a", "b", "c"]
    assert first.sweep() == 1
    lease = keys.sweep("0-16-1")
    assert 0 < client.pttl(lease) <= 5_000, (
        "a dead one's ends before its tenant locks do, by default"
    )
    client.pexpire(lease, 1_000)
    second.sweep()
    assert client.pttl(lease) <= 1_000, "others do not prolong it"
    first.sweep()
    assert client.pttl(lease) > 1_000, "who has it keeps it at each sweep"
    third.leave()
    client.delete(keys.wake(tenant))
    assert [one.sweep() for one in (second, first)] == [0, 1], "who leaves takes no other's"
    first.leave()
    client.delete(keys.wake(tenant))
    assert [one.sweep() for one in (second, third)] == [1, 0]
    client.delete(keys.wake(tenant), lease)
    assert [one.sweep() for one in (third, second)] == [1, 0], "the lease of a dead one has expired"
    assert sent == [tenant] * 4


def test_a_lease_that_cannot_be_anybodys_keeps_nobody_from_sweeping(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    lease = keys.sweep("0-16-1")
    for foreign in ("a list", "no expiry"):
        tenant = wait_in(client, settings, len(foreign))
        client.delete(lease)
        if foreign == "a list":
            client.lpush(lease, "x")
        else:
            client.set(lease, "x")
        assert Sweeper(None, settings, client, foreign).sweep() == 1
        assert sent.pop() == tenant
        client.delete(keys.inbox(tenant), keys.WAITING)
    client.set(lease, "a dead one's, of before the clock was set back", px=3_600_000)
    assert Sweeper(None, settings, client, "w").sweep() == 0
    assert client.pttl(lease) <= 5_000


@pytest.mark.parametrize("key", [keys.WORKERS, keys.STORES])
def test_no_key_of_another_type_keeps_a_worker_from_sweeping(
    client: redis.Redis, settings: Settings, sent: list[str], key: str
) -> None:
    one = sweeper_of(client, settings)
    one.sweep()
    client.delete(key)
    client.rpush(key, "x")
    tenant = wait_in(client, settings, 1)
    one.sweep()
    assert sent == [tenant]
    assert client.lrange(keys.odd(key), 0, -1) == [b"x"]
    assert client.hlen(key) > 0


def test_a_worker_that_ended_in_order_is_none_that_fell_silent(
    client: redis.Redis, settings: Settings
) -> None:
    both = [sweeper_of(client, settings, name) for name in ("helper", "w0")]
    for each in both:
        each.sweep()
    both[0].leave()
    assert [worker.name for worker in list_workers(client)] == ["w0"]


@pytest.mark.parametrize(
    ("interval_s", "age_s", "is_silent"),
    [(2, 14, False), (2, 16, True), (20, 55, False), (20, 65, True), (60, 170, False)],
)
def test_a_worker_that_sweeps_seldom_is_not_silent_between_two_sweeps(
    client: redis.Redis, settings: Settings, interval_s: float, age_s: int, is_silent: bool
) -> None:
    seldom = settings.model_copy(update={"sweep_interval_s": interval_s, "shards": 2})
    for name in ("w0", "w1"):
        sweeper_of(client, seldom, name).sweep()
    report = json.loads(client.hget(keys.WORKERS, "w0") or "")
    report["swept_ms"] -= age_s * 1000
    client.hset(keys.WORKERS, "w0", json.dumps(report))
    worker = list_workers(client)[0]
    assert (worker.name, worker.silent) == ("w0", is_silent)
    assert unserved([worker], 2) == ([0, 1] if is_silent else [])


def test_a_killed_worker_is_soon_forgotten_where_others_serve_its_shards(
    client: redis.Redis, settings: Settings
) -> None:
    seconds, _ = client.time()

    def report(name: str, shards: list[int], age_s: float) -> None:
        swept_ms = int((seconds - age_s) * 1000)
        client.hset(keys.WORKERS, name, json.dumps({"shards": shards, "swept_ms": swept_ms}))

    report("w0", [0, 1], 0)
    report("just killed", [0, 1], 30)
    report("killed", [1], 90)
    report("missed", [1, 2], 90)
    report("missed for long", [2], 4_000)
    assert [worker.name for worker in list_workers(client)] == [
        "just killed",
        "missed",
        "w0",
    ]
    kept = {b"just killed", b"missed", b"w0"}
    sweeper_of(client, settings.model_copy(update={"shards": 2})).sweep()
    assert set(client.hkeys(keys.WORKERS)) == {*kept, b"w"}, (
        "the tidying deletes the others' reports"
    )


def test_a_lasting_fault_is_tried_later_and_later_for_ever(
    client: redis.Redis, settings: Settings
) -> None:
    inbox = Inbox(client, settings, wait_in(client, settings, 1))
    delays = [backoff.failed(inbox, StoreUnavailable("no space")).delay_s for _ in range(40)]
    for tries, delay in enumerate(delays, 1):
        longest = min(60.0, 2.0 ** (tries - 1))
        assert 0.75 * longest <= delay <= longest
    wait = backoff.get(inbox)
    assert wait is not None
    assert (wait.tries, wait.stalled) == (40, True)
    assert wait.reason == "StoreUnavailable: no space"
    assert wait.since_ms < wait.next_ms
    backoff.kick(inbox)
    assert backoff.get(inbox) == Backoff(0, wait.since_ms, 0, wait.reason)
    assert backoff.failed(inbox, StoreUnavailable("no space")).tries == 1
    another = Inbox(client, settings, "another")
    backoff.kick(another)
    assert backoff.get(another) is None


def test_no_sweep_begins_before_the_server_was_checked() -> None:
    """Celery starts steps in the order of what they require, and else in any."""
    assert BrokerCheckStep in SweeperStep.requires


def test_a_turn_that_fails_when_all_is_settled_holds_nothing_up(
    client: redis.Redis, settings: Settings
) -> None:
    """Another turn may have committed all, where this one's lock has expired."""
    tenant = str(uuid.UUID(int=1))
    delays = [fail(client, settings, tenant).delay_s for _ in range(3)]
    assert all(0.75 <= delay <= 1 for delay in delays)
    assert backoff.get(Inbox(client, settings, tenant)) is None


@pytest.mark.parametrize("client", ["real"], indirect=True)
def test_a_turn_whose_last_step_the_server_refuses_holds_up_nothing_that_comes(
    client: redis.Redis, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wake flag stays until it expires; the sweep wakes what comes meanwhile."""
    tenant = wait_in(client, settings, 1)
    client.set(keys.wake(tenant), 1, px=wakeups.FLAG_LIFE_MS)
    settle = Inbox.settle

    def refused(*arguments: Any, **options: Any) -> Settled:
        if options["leave"] == "empty":
            # As the first of two batches is settled.
            return settle(*arguments, **{**options, "leave": "no"})
        client.config_set("min-replicas-to-write", 1)
        try:
            return settle(*arguments, **options)
        finally:
            client.config_set("min-replicas-to-write", 0)

    monkeypatch.setattr(Inbox, "settle", refused)
    with pytest.raises(BrokerUnavailable, match="replicas"):
        drain.drain_inbox(Inbox(client, settings, tenant))
    assert Inbox(client, settings, tenant).depth() == 0, "all is committed"
    assert 0 < client.pttl(keys.wake(tenant)) <= wakeups.FLAG_LIFE_MS
    [answer] = acceptance.accept(client, settings, [submission(2, tenant=tenant)])
    assert answer.wake_ms is None
    assert sweeper_of(client, settings).sweep() == 1
    assert sent == [tenant]


def test_the_reason_of_an_unforeseen_error_repeats_nothing_of_it(
    client: redis.Redis, settings: Settings
) -> None:
    tenant = wait_in(client, settings, 1)
    backoff.failed(Inbox(client, settings, tenant), ValueError("an export full of passwords"))
    wait = backoff.get(Inbox(client, settings, tenant))
    assert wait is not None
    assert wait.reason == "ValueError"


def test_a_long_tidying_keeps_no_inbox_waiting(
    client: redis.Redis, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def steps(*_: object) -> Iterator[int]:
        for number in range(100):
            done.append(number)
            yield 1

    monkeypatch.setattr(tidy, "steps", steps)
    monkeypatch.setattr(sweeper, "_TIDY_S", 0.0)
    sweeping = sweeper_of(client, settings)
    sweeping.sweep()
    assert 0 < len(done) < 100
    tenant = wait_in(client, settings, 1)
    before = len(done)
    sweeping.sweep()
    assert sent == [tenant]
    assert before < len(done) < 100, "the next sweep goes on where the last one stopped"
    for _ in range(100):
        sweeping.sweep()
    assert done == list(range(100)), "once an hour"


def test_what_a_clock_that_was_set_back_left_holds_nothing_up(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    """An hour: flags, waits and locks of a time that is still to come."""
    woken, turned, failed, locked = (wait_in(client, settings, n) for n in range(4))
    seconds, _ = client.time()
    later_ms = int(seconds) * 1000 + 3_600_000
    client.set(keys.wake(woken), later_ms, px=3_660_000)
    client.set(keys.wake(turned), f"{later_ms}t", px=3_660_000)
    client.hset(
        keys.backoff(failed),
        mapping={"tries": 1, "since_ms": later_ms, "next_ms": later_ms + 1_000, "reason": "full"},
    )
    client.set(keys.lock(locked), "a dead owner's", px=3_608_000)
    one = sweeper_of(client, settings)
    assert one.sweep() == 3
    assert set(sent) == {woken, turned, failed}
    for tenant in (turned, failed):
        begun = Inbox(client, settings, tenant).begin("a", int(seconds) * 1000, retry=False)
        assert begun.outcome == "begun"
        client.delete(keys.lock(tenant))
    assert 0 < client.pttl(keys.lock(locked)) <= settings.lock_ttl_s * 1000
    client.delete(keys.lock(locked))
    assert one.sweep() == 1


def test_a_flag_of_a_time_to_come_counts_for_nothing_in_a_very_long_queue(
    client: redis.Redis, settings: Settings, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = wait_in(client, settings, 1)
    seconds, _ = client.time()
    client.set(keys.wake(tenant), int(seconds) * 1000 + 3_600_000)
    monkeypatch.setattr(wakeups, "queued", lambda *_: None)
    assert sweeper_of(client, settings).sweep() == 1
    assert sent == [tenant]


def test_a_report_of_a_time_to_come_is_no_sign_of_life(client: redis.Redis) -> None:
    seconds, _ = client.time()
    report = {"shards": [0], "swept_ms": (int(seconds) + 600) * 1000}
    client.hset(keys.WORKERS, "w", json.dumps(report))
    [worker] = list_workers(client)
    assert worker.last_sweep_age_s > 500


def test_the_hourly_tidying_is_not_put_off_by_a_clock_that_was_set_back(
    client: redis.Redis,
) -> None:
    client.set(keys.TIDY, "1", ex=86_400)
    assert not tidy.is_due(client)
    assert client.ttl(keys.TIDY) <= tidy.INTERVAL_S


def test_the_thread_goes_on_after_what_nobody_foresaw_and_says_so(
    client: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marks: list[Mark] = []
    swept: list[int] = []

    def sweep(self: Sweeper) -> int:
        swept.append(1)
        if len(swept) < 4:
            raise RecursionError("nobody foresaw it")
        return 0

    monkeypatch.setattr(Sweeper, "sweep", sweep)
    monkeypatch.setattr(sweep_step, "open_client", lambda *_, **__: client)
    monkeypatch.setattr(unforeseen, "_logged", {})
    quick = settings.model_copy(update={"sweep_interval_s": 0.01})
    monkeypatch.setattr(sweep_step, "get_settings", lambda: quick)
    heartbeat = SimpleNamespace(
        mark=lambda what, _reason="": marks.append(what), note_broker=lambda _problem: None
    )
    step = SweeperStep(SimpleNamespace())
    parent = SimpleNamespace(app=None, hostname="w@test", heartbeat=heartbeat, broker_problems=None)
    step.start(parent)
    wait_for(lambda: Mark.SWEEP in marks, "a sweep that succeeds")
    step.stop(SimpleNamespace())
    assert marks[:4] == [Mark.SWEEP_FAILED] * 3 + [Mark.SWEEP]
    told = [one for one in caplog.records if getattr(one, "action", "") == "thread.trouble"]
    assert len(told) == 1, "the same is logged once a minute"


def test_one_sweep_an_hour_asks_for_stale_devices(
    client: redis.Redis, settings: Settings, asked_for_stale: list[Settings]
) -> None:
    for name in "abc":
        sweeper_of(client, settings, name).sweep()
    assert asked_for_stale == [settings]
    client.delete(keys.TIDY)
    off = settings.model_copy(update={"stale_hours": 0.0})
    sweeper_of(client, off).sweep()
    assert asked_for_stale == [settings]
