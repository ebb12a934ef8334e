"""The totals: everything is counted once, in the step that happens anyway; the last commits are kept."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import redis

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.models import Receipt
from confkeep.queue import acceptance
from confkeep.queue.receipts import Outcome
from confkeep.settings import load_settings
from tests.turns import DEVICE, TENANT, accept, batch, publish, submission
from worker.queue import backoff, dead_letters, inboxes, totals
from worker.queue.inbox import Inbox, Waiting
from worker.queue.totals import mark_of, read_recent, read_totals

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def commit(backup_id: str, **values: Any) -> Receipt:
    plain = {"lines_added": 2, "lines_removed": 1, "unchanged": False, "export_changed": True}
    return Receipt(
        tenant_id=TENANT,
        device_id=DEVICE,
        backup_id=backup_id,
        sha="a" * 40,
        committed_at=NOW,
        **{**plain, **values},
    )


def settle(client: redis.Redis, read: list[Waiting], **values: Any) -> None:
    marks = {w.entry.backup_id: mark_of(commit(w.entry.backup_id, **values)) for w in read}
    Inbox(client, load_settings(), TENANT).settle(read, marks=marks)


def test_what_is_accepted_is_counted_once(client: redis.Redis) -> None:
    settings = load_settings(inbox_max_backups=3)
    acceptance.accept(client, settings, [submission(n) for n in (1, 2, 3, 4)])
    acceptance.accept(client, settings, [submission(1), submission(2, b"/other")])
    assert read_totals(client).enqueued == 3


def test_what_is_settled_is_counted_once_however_often_it_is_settled(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(n) for n in range(6)])
    read = batch(client)
    settle(client, read[:2])
    settle(client, read[1:3], unchanged=True)
    settle(client, read[3:4], suspect="ends in the middle", unchanged=True)
    inbox.settle(
        read[4:5],
        marks={read[4].entry.backup_id: totals.DEAD},
    )
    inbox.settle(read[:5])
    found = read_totals(client)
    assert (found.enqueued, found.committed, found.unchanged) == (6, 4, 2)
    assert (found.suspect, found.dead, found.retried) == (1, 1, 0)
    assert found.committed_bytes == 4 * len(b"/ip")
    assert found.latency.count == 4
    assert found.enqueued == found.committed + found.dead + inbox.depth()


def test_the_latency_is_that_of_each_backup(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(n) for n in range(3)])
    now_ms = inboxes.server_time_ms(client)
    read = [
        Waiting(f"{now_ms - age_ms}-0", waiting.entry, raw=waiting.raw)
        for waiting, age_ms in zip(batch(client), (700, 3_000, 9_000_000), strict=True)
    ]
    client.delete(keys.inbox(TENANT))
    for waiting in read[::-1]:
        client.xadd(keys.inbox(TENANT), {"entry": waiting.entry.to_json()}, id=waiting.stream_id)
    settle(client, read)
    latency = read_totals(client).latency
    assert latency.count == 3
    assert 9_003.7 <= latency.sum_s < 9_013.7
    assert [latency.buckets[le] for le in (0.5, 1.0, 2.5, 10.0, 7200.0)] == [0, 1, 1, 2, 2]
    assert latency.buckets[float("inf")] == 3


def test_buckets_of_a_release_with_other_bounds_are_added_up() -> None:
    found = totals.parse(
        {b"latency_ms": b"40", b"latency_ms:20": b"2", b"latency_ms:9000000": b"1"}
    )
    assert found.latency.buckets[0.01] == 0
    assert found.latency.buckets[0.025] == 2
    assert found.latency.buckets[7200.0] == 2
    assert found.latency.count == 3


def test_a_clock_that_was_set_back_counts_as_no_time(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1)])
    [waiting] = batch(client)
    later = Waiting(f"{inboxes.server_time_ms(client) + 60_000}-0", waiting.entry, raw=b"x")
    client.xadd(keys.inbox(TENANT), {"entry": "x"}, id=later.stream_id)
    settle(client, [later])
    assert read_totals(client).latency.sum_s == 0
    assert read_totals(client).latency.buckets[0.01] == 1


def test_tries_that_failed_are_counted(client: redis.Redis, inbox: Inbox) -> None:
    for _ in range(3):
        backoff.failed(inbox, StoreUnavailable("no space"))
    assert read_totals(client).retried == 3


def test_a_dead_letter_that_is_put_back_is_enqueued_again(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1)])
    [waiting] = batch(client)
    error = StagedBytesMissing("gone")
    dead_letters.bury(inbox, waiting.entry, error)
    outcome = Outcome(waiting.entry.backup_id, waiting.entry.digest(TENANT), error)
    publish(client, [outcome], 60)
    inbox.settle([waiting], marks={waiting.entry.backup_id: totals.DEAD})
    dead_letters.retry(client, inbox.settings, waiting.entry.backup_id)
    found = read_totals(client)
    assert (found.enqueued, found.dead, inbox.depth()) == (2, 1, 1)


def test_the_last_commits_are_kept_newest_first_and_once(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(n) for n in range(30)])
    read = batch(client)
    settle(client, read[:3])
    settle(client, read[:3])
    assert [one.backup_id for one in read_recent(client)] == [
        waiting.entry.backup_id for waiting in read[2::-1]
    ]
    settle(client, read[3:], suspect="a login banner\n\u2028")
    recent = read_recent(client)
    assert [one.backup_id for one in recent] == [
        waiting.entry.backup_id for waiting in read[:-21:-1]
    ]
    assert recent[0] == commit(read[-1].entry.backup_id, suspect="a login banner\n\u2028")


def test_rows_of_others_do_not_break_the_list(client: redis.Redis) -> None:
    known = commit(str(uuid.uuid4()))
    no_date = known.model_dump(mode="json") | {"committed_at": "2026-01-02T03:04:05"}
    client.rpush(keys.RECENT, "{", '"x"', "{}", json.dumps(no_date), known.model_dump_json())
    assert read_recent(client) == [known]


def test_forgetting_takes_the_rows_of_a_device_or_of_a_tenant(client: redis.Redis) -> None:
    first, other, strange = (commit(str(uuid.uuid4())) for _ in range(3))
    other = other.model_copy(update={"device_id": str(uuid.uuid4())})
    strange = strange.model_copy(update={"tenant_id": str(uuid.uuid4())})
    client.rpush(keys.RECENT, *(one.model_dump_json() for one in (first, other, strange)))
    assert totals.forget(client, [TENANT.encode(), DEVICE.encode()]) == 1
    assert read_recent(client) == [other, strange]
    assert totals.forget(client, [TENANT.encode()]) == 1
    assert read_recent(client) == [strange]
