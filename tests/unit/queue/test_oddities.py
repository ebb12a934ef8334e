"""What others wrote in the place of confkeep's state: set aside, left out, and told; nothing accepted goes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.queue import acceptance, receipts
from confkeep.settings import Settings, load_settings
from tests.garbage import KINDS, TEXTS
from tests.turns import TENANT, lose_wake_ups, publish, read_batch, submission
from tests.unit.queue.test_sweeper import sent, sweeper_of, wait_in
from worker.observe import unforeseen
from worker.process.workers import list_workers
from worker.queue import backoff, dead_letters, inboxes, oddities
from worker.queue.inbox import Inbox

__all__ = ["sent"]

BACKUP = submission(1).entry.backup_id


def accept(client: redis.Redis, settings: Settings, number: int = 1) -> str:
    [answer] = acceptance.accept(client, settings, [submission(number)])
    lose_wake_ups(client)
    return answer.outcome


def waiting_ids(client: redis.Redis) -> list[str]:
    return [waiting.entry.backup_id for waiting in Inbox(client, load_settings(), TENANT).peek(100)]


@pytest.mark.parametrize("key", [*keys.TYPES, *keys.types_of(TENANT)])
@pytest.mark.parametrize("kind", ["list", "string, deep", "hash, not UTF-8"])
def test_no_key_of_another_type_keeps_a_backup_out(
    client: redis.Redis, settings: Settings, key: str, kind: str
) -> None:
    KINDS[kind](client, key.encode(), TENANT, str(uuid.uuid4()))
    assert accept(client, settings) == "accepted"
    assert waiting_ids(client) == [BACKUP]
    read = read_batch(Inbox(client, settings, TENANT))
    assert len(read.entries) == 1
    publish(client, [receipts.Outcome(BACKUP, "d", {"sha": "0" * 40})], settings.receipt_ttl_s)
    assert Inbox(client, settings, TENANT).settle(read.entries).left == 0
    backoff.failed(Inbox(client, settings, TENANT), StoreUnavailable("no space"))


def test_what_is_set_aside_is_kept_whole_and_told(client: redis.Redis, settings: Settings) -> None:
    client.rpush(keys.inbox(TENANT), "x", "y")
    assert accept(client, settings) == "accepted"
    aside = keys.odd(keys.inbox(TENANT))
    assert client.lrange(aside, 0, -1) == [b"x", b"y"]
    assert client.ttl(aside) > 0
    [told] = oddities.look(client, [])
    assert told.key == keys.inbox(TENANT)
    assert told.step.endswith(f"DEL {aside}")
    client.delete(aside)
    assert oddities.look(client, []) == [], (
        "who has looked at it deletes it, and it is told no more"
    )


@pytest.mark.parametrize("text", [text for name, text in TEXTS.items() if name != "object"])
def test_an_id_whose_record_is_none_is_taken_for_no_other_backup(
    client: redis.Redis, settings: Settings, text: bytes
) -> None:
    client.set(keys.result(BACKUP), text)
    if text in (TEXTS["list"], TEXTS["deep"]):
        client.delete(keys.result(BACKUP))
        client.rpush(keys.result(BACKUP), text)
    assert accept(client, settings) == "garbled"
    assert waiting_ids(client) == []
    assert keys.result(BACKUP) in str(receipts.garbled(BACKUP))
    client.delete(keys.result(BACKUP))
    assert accept(client, settings) == "accepted"


def test_an_inbox_that_takes_no_entry_begins_anew_when_a_worker_has_looked(
    client: redis.Redis, settings: Settings
) -> None:
    KINDS["stream, last id"](client, keys.inbox(TENANT).encode(), TENANT, BACKUP)
    assert accept(client, settings) == "stuck"
    assert client.zscore(keys.WAITING, TENANT) is not None, "a sweep finds it"
    [found] = read_batch(Inbox(client, settings, TENANT)).unreadable
    dead_letters.bury_unreadable(Inbox(client, settings, TENANT), found)
    assert accept(client, settings) == "accepted"
    assert waiting_ids(client) == [BACKUP]


def test_counters_that_are_no_numbers_begin_anew(client: redis.Redis, settings: Settings) -> None:
    for name in ("entries", "bytes", TENANT):
        client.hset(keys.LOAD, name, TEXTS["digits"])
    client.set(keys.ROOM, b"-5")
    client.hset(keys.TOTALS, "enqueued", "x")
    client.hset(keys.replies(TENANT), BACKUP, TEXTS["deep"])
    [answer] = acceptance.accept(client, settings, [submission(1, reply_to="another")])
    assert answer.outcome == "accepted"
    assert json.loads(client.hget(keys.replies(TENANT), BACKUP) or b"") == ["another"]
    assert inboxes.read_load(client).entries == 1
    assert client.hget(keys.TOTALS, "enqueued") == b"1"


def test_a_garbled_inbox_entry_and_its_bytes_cost_only_themselves(
    client: redis.Redis, settings: Settings
) -> None:
    client.xadd(keys.inbox(TENANT), {"entry": TEXTS["deep object"]})
    client.xadd(keys.inbox(TENANT), {"at": TEXTS["digits"], b"\xff": "x"})
    accept(client, settings)
    client.set(keys.attempts(TENANT), "x")
    read = read_batch(Inbox(client, settings, TENANT))
    assert len(read.unreadable) == 2
    assert [waiting.entry.backup_id for waiting in read.entries] == [BACKUP]
    for found in read.unreadable:
        dead_letters.bury_unreadable(Inbox(client, settings, TENANT), found)
    assert len(dead_letters.list_dead_letters(client)) == 2
    assert waiting_ids(client) == [BACKUP]


def test_a_letter_of_a_later_release_is_read_and_others_are_shown_and_discarded(
    client: redis.Redis, settings: Settings
) -> None:
    dead_letters.bury(
        Inbox(client, settings, TENANT), submission(1).entry, StagedBytesMissing("gone")
    )
    letter = json.loads(client.hget(keys.DEAD, BACKUP) or b"")
    client.hset(keys.DEAD, BACKUP, json.dumps({**letter, "seen_by": "a later release"}))
    client.hset(keys.DEAD, b"\xff", TEXTS["deep"])
    client.hset(keys.DEAD, "another", json.dumps(letter))
    letters = {letter.backup_id: letter for letter in dead_letters.list_dead_letters(client)}
    assert letters[BACKUP].kind == "StagedBytesMissing"
    assert letters["\udcff"].kind == letters["another"].kind == "OddValue"
    assert dead_letters.unsigned_ids(client) == set()
    for name in ("\udcff", "another"):
        dead_letters.discard(client, settings, name)
    assert client.hkeys(keys.DEAD) == [BACKUP.encode()]


def test_a_lock_that_never_expires_and_moments_of_the_future_stop_no_tenant(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    locked, flagged, waits = (wait_in(client, settings, number) for number in range(3))
    client.set(keys.lock(locked), "")
    client.set(keys.wake(flagged), "99999999999999t")
    client.hset(keys.backoff(waits), mapping={"tries": "x", "next_ms": 2**60})
    sweeping = sweeper_of(client, settings)
    sweeping.sweep()
    client.delete(keys.wake(locked))
    sweeping.sweep()
    assert {locked, flagged, waits} == set(sent)
    assert not client.exists(keys.lock(locked))


@pytest.mark.parametrize(
    "told",
    [
        "READONLY You can't write against a read only replica.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but cannot.",
        "NOREPLICAS Not enough good replicas to write.",
        "NOPERM this user has no permissions to run the 'eval' command",
        "EXECABORT Transaction discarded because of previous errors.",
    ],
    ids=lambda told: told.split()[0],
)
def test_a_server_that_refuses_ends_a_sweep(
    client: redis.Redis,
    settings: Settings,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    told: str,
) -> None:
    """It is an outage, which is told as one, and nothing that nobody foresaw."""
    wait_in(client, settings, 0)

    def refuse(*_: Any) -> bool:
        parse: Any = BaseParser.parse_error
        raise parse(told)  # as redis-py makes it of an answer

    monkeypatch.setattr(Inbox, "claim_wake", refuse)
    with pytest.raises(redis.ResponseError):
        sweeper_of(client, settings).sweep()
    assert unforeseen.last() is None


def test_one_tenants_trouble_costs_no_other_its_wake_up(
    client: redis.Redis,
    settings: Settings,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tenants = [wait_in(client, settings, number) for number in range(8)]
    claim = Inbox.claim_wake

    def fail(inbox: Inbox, read: bytes | None, now_ms: int) -> bool:
        if inbox.tenant_id == tenants[0]:
            raise RecursionError("what nobody foresaw")
        return claim(inbox, read, now_ms)

    monkeypatch.setattr(Inbox, "claim_wake", fail)
    sweeping = sweeper_of(client, settings)
    for _ in range(3):
        sweeping.sweep()
    assert sorted(sent) == sorted(tenants[1:])
    records = [one for one in caplog.records if getattr(one, "action", "") == "thread.trouble"]
    assert len(records) == 1, "the same is logged once a minute"
    assert records[0].exc_info
    [worker] = list_workers(client)
    assert worker.trouble == "sweeper: wake a tenant: RecursionError"
    assert unforeseen.last() == worker.trouble


@pytest.fixture(autouse=True)
def _forget_troubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unforeseen, "_logged", {})
    monkeypatch.setattr(unforeseen, "_last", ("", -unforeseen.SHOWN_S))


def test_a_mark_of_no_tenant_is_left_out_and_told(client: redis.Redis) -> None:
    client.hincrby(keys.LOAD, b"\xff", 1)
    client.zadd(keys.WAITING, {b"\xfe": 1})
    client.zadd(keys.WAITING, {str(uuid.UUID(int=5)): float("inf")})
    client.hset(keys.WORKERS, "w", TEXTS["deep"])
    assert inboxes.read_load(client).entries == 0
    assert inboxes.list_inboxes(client) == []
    told = {one.key: one.step for one in oddities.look(client, [])}
    assert told == {
        keys.LOAD: 'look at it, then HDEL confkeep:load "\\xff"',
        keys.WAITING: 'look at it, then ZREM confkeep:waiting "\\xfe"',
        keys.WORKERS: "look at it, then HDEL confkeep:workers w",
    }
