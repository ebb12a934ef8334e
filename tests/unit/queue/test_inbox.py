"""The inbox: accepted whole, once, in order; out only when settled; nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any
from unittest.mock import ANY

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import PoisonedBackup, StagedBytesMissing
from confkeep.queue import acceptance
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings, load_settings
from tests.servers import names_of
from tests.turns import TENANT, accept, batch, lose_wake_ups, publish, read_batch, submission
from worker.engine import drain
from worker.queue import backoff, inboxes
from worker.queue.inbox import Batch, Inbox, Waiting


def test_accept_leaves_exactly_the_keys_of_one_backup(client: redis.Redis, inbox: Inbox) -> None:
    one = submission(1)
    [accepted] = accept(inbox, [one])
    assert accepted.outcome == "accepted"
    assert client.get(keys.wake(TENANT)) == str(accepted.wake_ms).encode()
    assert names_of(client) == {
        keys.inbox(TENANT),
        keys.WAITING,
        keys.wake(TENANT),
        keys.staged(TENANT, one.entry.backup_id),
        keys.result(one.entry.backup_id),
        keys.LOAD,
        keys.TOTALS,
        keys.queue_of(TENANT, inbox.settings.shards),
    }
    assert client.get(keys.staged(TENANT, one.entry.backup_id)) == b"/ip"
    assert 0 < client.ttl(keys.result(one.entry.backup_id)) <= inbox.settings.receipt_ttl_s
    assert 0 < client.pttl(keys.wake(TENANT)) <= 60_000


def test_a_burst_of_one_tenant_asks_for_one_wake_up(inbox: Inbox) -> None:
    accepted = accept(inbox, [submission(n) for n in range(50)])
    assert [answer.wake_ms is None for answer in accepted] == [False] + [True] * 49


def test_entries_come_back_in_the_order_of_their_enqueue(client: redis.Redis, inbox: Inbox) -> None:
    sent = [submission(n) for n in (5, 3, 9, 1)]
    accept(inbox, sent)
    assert [waiting.entry for waiting in batch(client)] == [one.entry for one in sent]


def test_the_same_id_and_bytes_are_accepted_once(client: redis.Redis, inbox: Inbox) -> None:
    first, again = submission(1), submission(1)
    # A producer that repeats a call may make message and time anew.
    again = dataclasses.replace(again, entry=dataclasses.replace(again.entry, message="other"))
    outcomes = [accept(inbox, [one])[0].outcome for one in (first, again)]
    assert outcomes == ["accepted", "waiting"]
    assert [waiting.entry for waiting in batch(client)] == [first.entry]


@pytest.mark.parametrize("settled", [False, True])
def test_the_same_id_with_other_bytes_is_a_conflict_and_changes_nothing(
    client: redis.Redis, inbox: Inbox, settled: bool
) -> None:
    one = submission(1)
    accept(inbox, [one])
    if settled:
        _settle(client, inbox.settings, batch(client))
    before = {key: client.dump(key) for key in names_of(client)}
    for other in (submission(1, b"/other"), submission(1, tenant=str(uuid.UUID(int=9)))):
        [answer] = accept(inbox, [other])
        assert answer == acceptance.Accepted("conflict")
    assert {key: client.dump(key) for key in names_of(client)} == before


def _settle(client: redis.Redis, settings: Settings, settled: list[Waiting]) -> int:
    outcomes = {
        one.entry.backup_id: Outcome(
            one.entry.backup_id, one.entry.digest(TENANT), {"sha": "0" * 40}
        )
        for one in settled
    }
    return Inbox(client, settings, TENANT).settle(settled, outcomes=outcomes).left


def test_settling_the_last_entry_leaves_its_record_alone(client: redis.Redis, inbox: Inbox) -> None:
    one = submission(1, reply_to=str(uuid.UUID(int=77)))
    accept(inbox, [one])
    client.delete(keys.wake(TENANT))
    lose_wake_ups(client)
    assert _settle(client, inbox.settings, batch(client)) == 0
    assert names_of(client) == {
        keys.TOTALS,
        keys.result(one.entry.backup_id),
        keys.result(str(uuid.UUID(int=77))),
    }


def test_settling_takes_only_the_named_entries(client: redis.Redis, inbox: Inbox) -> None:
    sent = [submission(n) for n in range(4)]
    accept(inbox, sent)
    read = batch(client)
    assert _settle(client, inbox.settings, [read[0], read[2]]) == 2
    assert [waiting.entry for waiting in batch(client)] == [sent[1].entry, sent[3].entry]
    assert client.exists(keys.staged(TENANT, sent[1].entry.backup_id))
    assert not client.exists(keys.staged(TENANT, sent[2].entry.backup_id))
    assert client.zscore(keys.WAITING, TENANT) == batch(client)[0].accepted_ms


@pytest.mark.parametrize("client", ["real"], indirect=True)
def test_a_batch_of_any_size_is_settled_at_once(client: redis.Redis, inbox: Inbox) -> None:
    """Lua returns no more than 8,000 values at once."""
    ones = [submission(n) for n in range(900)]
    accept(inbox, ones)
    inbox.settle(batch(client, len(ones)))
    assert client.xlen(keys.inbox(TENANT)) == 0


def test_settling_again_does_no_harm(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1), submission(2)])
    read = batch(client)
    assert _settle(client, inbox.settings, read[:1]) == 1
    assert _settle(client, inbox.settings, read[:1]) == 1


def test_an_id_that_was_settled_is_done_and_not_accepted_again(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1)])
    _settle(client, inbox.settings, batch(client))
    client.delete(keys.wake(TENANT))
    lose_wake_ups(client)
    [answer] = accept(inbox, [submission(1)])
    assert answer == acceptance.Accepted("done")
    assert names_of(client) == {keys.TOTALS, keys.result(submission(1).entry.backup_id)}


def test_a_dead_letter_that_comes_again_starts_anew(client: redis.Redis, inbox: Inbox) -> None:
    one = submission(1)
    accept(inbox, [one])
    outcome = Outcome(
        one.entry.backup_id, one.entry.digest(TENANT), StagedBytesMissing("the bytes are gone")
    )
    publish(client, [outcome], 60)
    inbox.settle(batch(client))
    [answer] = accept(inbox, [submission(1)])
    assert answer.outcome == "accepted"
    assert [waiting.entry for waiting in batch(client)] == [one.entry]


def test_a_result_that_no_backup_stands_behind_does_not_block_an_id(
    client: redis.Redis, inbox: Inbox
) -> None:
    # Such as the failure of a `backups.receive` with bad input, repeated with good one.
    one = submission(1)
    client.set(keys.result(one.entry.backup_id), json.dumps({"status": "FAILURE", "result": {}}))
    assert accept(inbox, [one])[0].outcome == "accepted"


def test_batches_are_bounded_by_count_and_by_bytes(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(n, b"x" * 100) for n in range(10)])
    assert len(batch(client, max_backups=4)) == 4
    assert len(batch(client, max_bytes=350)) == 3
    assert len(batch(client, max_bytes=50)) == 1, "a backup above the bound is a batch of its own"


def test_what_is_no_entry_is_told_apart(client: redis.Redis, inbox: Inbox) -> None:
    client.xadd(keys.inbox(TENANT), {"entry": b"{"})
    client.xadd(keys.inbox(TENANT), {"other": b"1"})
    accept(inbox, [submission(1)])
    read = read_batch(inbox)
    assert [waiting.entry for waiting in read.entries] == [submission(1).entry]
    assert [found.text for found in read.unreadable] == ["{", ""]
    assert inbox.settle(read.unreadable).left == 1


def test_inboxes_are_listed_by_the_age_of_their_oldest_entry(
    client: redis.Redis, inbox: Inbox
) -> None:
    other = str(uuid.UUID(int=5))
    accept(inbox, [submission(1), submission(2)])
    accept(inbox, [submission(3, tenant=other)])
    client.zadd(keys.WAITING, {other: 0})
    first, second = inboxes.list_inboxes(client)
    assert (first.tenant_id, first.entries) == (other, 1)
    assert (second.tenant_id, second.entries) == (TENANT, 2)
    assert first.oldest_age_s > second.oldest_age_s >= 0
    assert len(inboxes.list_inboxes(client, limit=1)) == 1


def test_entries_survive_their_json() -> None:
    entry = dataclasses.replace(submission(1).entry, message="caf\udce9 \U0001f600")
    assert Entry.from_json(entry.to_json()) == entry
    assert entry.to_json().isascii()


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [
        ({"inbox_max_backups": 2}, "tenant full"),
        ({"inbox_max_bytes": 7}, "tenant full"),
        ({"total_max_backups": 2}, "all full"),
        ({"total_max_bytes": 7}, "all full"),
    ],
)
def test_a_full_inbox_refuses_with_its_figures_and_keeps_nothing(
    client: redis.Redis, limit: dict[str, int], outcome: str
) -> None:
    settings = load_settings(**limit)
    sent = acceptance.accept(client, settings, [submission(n) for n in range(3)])
    assert [answer.outcome for answer in sent] == ["accepted", "accepted", outcome]
    assert (sent[2].entries, sent[2].bytes) == (2, 6)
    refused = submission(2).entry.backup_id
    assert not {key for key in names_of(client) if refused in key}
    # What was accepted before may still be asked for again, and settling makes room.
    assert acceptance.accept(client, settings, [submission(1)])[0].outcome == "waiting"
    _settle(client, settings, batch(client)[:1])
    assert acceptance.accept(client, settings, [submission(2)])[0].outcome == "accepted"


def test_what_comes_behind_a_refused_backup_is_refused_too(client: redis.Redis) -> None:
    settings = load_settings(inbox_max_bytes=10)
    other = str(uuid.UUID(int=5))
    sent = [
        submission(1),
        submission(2, b"x" * 50),
        submission(3),
        submission(4, tenant=other),
    ]
    answers = acceptance.accept(client, settings, sent)
    assert [answer.outcome for answer in answers] == [
        "accepted",
        "tenant full",
        "behind",
        "accepted",
    ]


def test_a_backup_above_the_limit_fits_into_an_empty_inbox(client: redis.Redis) -> None:
    settings = load_settings(inbox_max_bytes=1, total_max_bytes=1)
    assert acceptance.accept(client, settings, [submission(1)])[0].outcome == "accepted"


def test_the_load_is_what_waits_however_often_it_is_settled(
    client: redis.Redis, inbox: Inbox
) -> None:
    other = str(uuid.UUID(int=5))
    accept(inbox, [submission(n) for n in range(3)])
    accept(inbox, [submission(9, tenant=other)])
    read = batch(client)
    for _ in range(2):
        _settle(client, inbox.settings, read[:2])
        assert client.hgetall(keys.LOAD) == {
            b"entries": b"2",
            b"bytes": b"6",
            TENANT.encode(): b"3",
            other.encode(): b"3",
        }


def test_after_attempts_that_settled_nothing_entries_come_alone(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(n) for n in range(3)])

    def read() -> Batch:
        return read_batch(Inbox(client, settings, TENANT))

    sizes = [(found.attempts, len(found.entries)) for found in (read() for _ in range(5))]
    assert sizes == [(0, 3), (1, 3), (2, 3), (3, 1), (4, 1)]
    _settle(client, settings, read().entries)
    assert (read().attempts, len(read().entries)) == (0, 2)


def test_reading_an_empty_inbox_leaves_no_key(client: redis.Redis, inbox: Inbox) -> None:
    assert not read_batch(inbox)
    assert names_of(client) == set()


def test_a_new_backup_does_not_hasten_the_next_try(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1)])
    client.delete(keys.wake(TENANT))
    backoff.failed(inbox, StagedBytesMissing("gone"))
    assert accept(inbox, [submission(2)]) == [acceptance.Accepted("accepted")]


@pytest.mark.parametrize(
    "change",
    [
        {"backup_id": "../x"},
        {"device_id": "6FA459EA-EE8A-3CA4-894E-DB77E160355E"},
        {"message": "a\0b"},
        {"message": None},
        {"captured_at": "2026-01-01T00:00:00"},
        {"captured_at": "0001-01-01T00:00:00+00:00"},
        {"export_bytes": -1},
        {"export_bytes": "3"},
        {"export_sha256": "../"},
        {"binary_sha256": "0" * 64},
        {"staging": "elsewhere"},
        {"message": "\ud800"},
        {"binary_sha256": 0},
        {"export_bytes": True},
        {"export_bytes": 10**30},
        {"captured_at": 7},
    ],
)
def test_an_entry_that_no_enqueue_writes_is_refused(change: dict[str, Any]) -> None:
    values = {**json.loads(submission(1).entry.to_json()), **change}
    with pytest.raises(PoisonedBackup):
        Entry.from_json(json.dumps(values))


def test_a_stale_settling_leaves_another_entry_of_the_same_id(
    client: redis.Redis, inbox: Inbox
) -> None:
    """As a server's clock leaves it that was set back: an id is given a second time."""
    accept(inbox, [submission(1)])
    stale = batch(client)
    _settle(client, inbox.settings, stale)
    client.delete(keys.inbox(TENANT))
    accept(inbox, [submission(2)])
    [now] = batch(client)
    client.delete(keys.inbox(TENANT))
    client.xadd(keys.inbox(TENANT), {"entry": now.raw}, id=stale[0].stream_id)
    load = client.hgetall(keys.LOAD)
    settled = inbox.settle(stale)
    assert settled.left == 1
    assert [waiting.entry for waiting in batch(client)] == [submission(2).entry]
    assert client.hgetall(keys.LOAD) == load
    assert client.exists(keys.staged(TENANT, submission(2).entry.backup_id))


def test_an_empty_inbox_stays_and_gives_no_id_twice(client: redis.Redis, inbox: Inbox) -> None:
    ahead = inboxes.server_time_ms(client) + 60_000
    client.xadd(keys.inbox(TENANT), {"entry": b"{"}, id=f"{ahead}-5")
    client.xdel(keys.inbox(TENANT), f"{ahead}-5")
    [answer] = accept(inbox, [submission(1)])
    [waiting] = batch(client)
    assert waiting.stream_id == f"{ahead}-6"
    assert waiting.enqueued_ms == answer.wake_ms, "the clock as it is now"
    [box] = inboxes.list_inboxes(client)
    assert 0 <= box.oldest_age_s < 30
    inbox.settle([waiting])
    assert client.exists(keys.inbox(TENANT))
    assert client.xlen(keys.inbox(TENANT)) == 0


def test_a_record_without_its_entry_is_not_believed(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1), submission(2)])
    [lost, _] = batch(client)
    client.xdel(keys.inbox(TENANT), lost.stream_id)
    again = accept(inbox, [submission(1), submission(2)])
    assert [answer.outcome for answer in again] == ["accepted", "waiting"]
    assert [w.entry for w in batch(client)] == [submission(2).entry, submission(1).entry]


def test_records_of_an_earlier_release_are_looked_for_in_the_whole_inbox(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1), submission(2)])
    for number in (1, 2):
        name = keys.result(submission(number).entry.backup_id)
        record = json.loads(client.get(name) or b"")
        del record["tenant"], record["entry"]
        client.set(name, json.dumps(record))
    client.xdel(keys.inbox(TENANT), batch(client)[0].stream_id)
    again = accept(inbox, [submission(2), submission(1), submission(1)])
    assert [answer.outcome for answer in again] == ["waiting", "accepted", "waiting"]


def test_an_empty_inbox_that_counters_call_full_is_put_right_by_a_turn(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1)])
    client.delete(keys.inbox(TENANT))
    assert drain.drain_inbox(inbox) == drain.Turn(ended_ms=ANY)
    assert not client.exists(keys.WAITING, keys.LOAD, keys.attempts(TENANT))


def test_an_entry_that_is_named_twice_is_settled_once(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(n) for n in range(3)])
    first, *_ = batch(client)
    assert inbox.settle([first, first]).left == 2
    assert inboxes.read_load(client).entries == 2
