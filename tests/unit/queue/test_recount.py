"""Counting anew: what is off is put right, what waits without an entry is found and told."""

from __future__ import annotations

import json
import uuid

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import EntryMissing
from tests.turns import TENANT, accept, batch, submission, tidy_all
from worker.engine import drain
from worker.queue import dead_letters, inboxes, totals
from worker.queue.inbox import Inbox

OTHER = str(uuid.UUID(int=9))


pytestmark = pytest.mark.parametrize("client", ["real"], indirect=True)


def test_what_is_right_stays_as_it_is(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1), submission(2, b"/ip/ad")])
    batch(client)
    before = {name: client.dump(name) for name in client.scan_iter()}
    assert tidy_all(client, inbox.settings) == 0
    assert {name: client.dump(name) for name in client.scan_iter()} == before


def test_counters_and_marks_that_are_off_are_put_right(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1), submission(2, b"/ip/ad")])
    right = {name: client.hgetall(name) for name in (keys.LOAD, keys.TOTALS)}
    gone = str(uuid.uuid4())
    client.zadd(keys.WAITING, {gone: 1})
    client.zrem(keys.WAITING, TENANT)
    client.hset(keys.LOAD, mapping={"entries": 7, "bytes": "many", TENANT: 1, gone: 99})
    client.hset(keys.backoff(gone), "tries", 3)
    client.hset(keys.TOTALS, "enqueued", 1)
    tidy_all(client, inbox.settings)
    assert client.zrange(keys.WAITING, 0, -1) == [TENANT.encode()]
    for name, fields in right.items():
        assert client.hgetall(name) == fields
    assert not client.exists(keys.backoff(gone))


def test_what_was_settled_and_not_counted_counts_as_committed(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1), submission(2)])
    [first, _] = batch(client)
    client.xdel(keys.inbox(TENANT), first.stream_id)
    client.set(keys.result(first.entry.backup_id), "{}")
    tidy_all(client, inbox.settings)
    counted = totals.read_totals(client)
    assert (counted.enqueued, counted.committed) == (2, 1)
    load = inboxes.read_load(client)
    assert (load.entries, load.bytes, load.tenant_bytes) == (1, 3, {TENANT: 3})


def test_a_backup_that_waits_without_an_entry_is_told_and_accepted_anew(
    client: redis.Redis, inbox: Inbox
) -> None:
    lost = submission(1)
    accept(inbox, [lost, submission(2)])
    client.xdel(keys.inbox(TENANT), batch(client)[0].stream_id)
    listener = client.pubsub()  # type: ignore[no-untyped-call]
    listener.subscribe(keys.result(lost.entry.backup_id))
    listener.get_message(timeout=5)
    tidy_all(client, inbox.settings)
    message = listener.get_message(timeout=5)
    listener.close()
    assert message is not None
    assert json.loads(message["data"])["result"]["exc_type"] == "EntryMissing"
    [letter] = dead_letters.list_dead_letters(client)
    assert (letter.backup_id, letter.kind) == (lost.entry.backup_id, "EntryMissing")
    with pytest.raises(EntryMissing, match="hand the backup over again"):
        dead_letters.retry(client, inbox.settings, letter.backup_id)
    tidy_all(client, inbox.settings)
    assert totals.read_totals(client).dead == 1
    [answer] = accept(inbox, [lost])
    assert answer.outcome == "accepted"
    assert dead_letters.list_dead_letters(client) == []
    assert drain.drain_inbox(inbox).committed == 2
    counted = totals.read_totals(client)
    assert counted.enqueued == counted.committed + counted.dead == 3


def test_keys_of_another_type_end_nothing(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1)])
    client.delete(keys.LOAD)
    for name in (keys.inbox(OTHER), keys.result("x")):
        client.hset(name, "a", "b")
    client.set(keys.result("y"), '{"status": "PENDING", "tenant": "x", "entry": {}')
    client.zadd(keys.WAITING, {OTHER: 1})
    tidy_all(client, inbox.settings)
    assert inboxes.read_load(client).entries == 1
