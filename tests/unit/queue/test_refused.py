"""What is refused is kept whole and bounded, its sender told once; no backup's record gives way."""

from __future__ import annotations

import json
import uuid

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import MessageRefused
from confkeep.queue import receipts
from confkeep.settings import Settings
from worker.broker.gate import Refusal
from worker.queue import refused, totals
from worker.queue.inbox import Inbox

ERROR = MessageRefused("task", "is none of ours")
ID = str(uuid.UUID(int=1))
TENANT, DEVICE = str(uuid.UUID(int=2)), str(uuid.UUID(int=3))


def put(
    client: redis.Redis, raw: bytes, task_id: str | None = None, tag: bytes | None = None
) -> str:
    refusal = Refusal(ERROR, None, task_id)
    return refused.set_aside(client, raw, keys.RECEIVE_QUEUE, refusal, 60, unacked_tag=tag)


def test_a_message_is_kept_whole_with_its_reason_and_counted(client: redis.Redis) -> None:
    refused_id = put(client, b"\xff\x00[", ID)
    [one] = refused.list_refused(client)
    assert (one.refused_id, one.message, one.is_whole) == (refused_id, b"\xff\x00[", True)
    assert (one.queue, one.reason, one.task_id) == ("backups.receive", "task: is none of ours", ID)
    assert totals.read_totals(client).refused == refused.count(client) == 1
    assert "\\xff" not in repr(one)
    assert refused.discard(client, [refused_id]) == 1
    assert not client.exists(keys.REFUSED)


def test_its_sender_is_told_unless_the_id_is_anothers(client: redis.Redis) -> None:
    put(client, b"x", ID)
    record = json.loads(client.get(keys.result(ID)))  # type: ignore[arg-type]
    assert (record["status"], record["result"]["exc_type"]) == ("FAILURE", "MessageRefused")
    assert "accepted" not in record
    assert client.ttl(keys.result(ID)) > 0
    client.set(keys.result(ID), "another's")
    put(client, b"x", ID)
    assert client.get(keys.result(ID)) == b"another's"


def test_what_is_kept_is_bounded_and_the_newest_stay(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "MOST", 5)
    monkeypatch.setattr(refused, "MOST_BYTES", 100)
    ids = [put(client, b"x") for _ in range(7)]
    assert [one.refused_id for one in refused.list_refused(client)] == ids[2:]
    for size in (30, 40, 50):
        ids.append(put(client, b"x" * size))
    assert [one.size_bytes for one in refused.list_refused(client)] == [40, 50]
    # What was discarded in between counts no more than it has to.
    refused.discard(client, ids[-1:])
    put(client, b"x" * 55)
    assert [one.size_bytes for one in refused.list_refused(client)] == [40, 55]
    put(client, b"x" * 500)
    assert [one.size_bytes for one in refused.list_refused(client)] == [500]


def test_of_a_very_long_one_the_beginning_is_kept(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused, "MOST_WHOLE_BYTES", 70_000)
    put(client, b"x" * 70_001)
    [one] = refused.list_refused(client)
    assert (one.size_bytes, one.is_whole, len(one.message)) == (70_001, False, 65_536)


def test_what_a_worker_took_goes_when_it_is_kept(client: redis.Redis) -> None:
    for tag in (b"\xff", b"other"):
        client.hset(keys.UNACKED, tag, "x")
        client.zadd(keys.UNACKED_INDEX, {tag: 0})
    put(client, b"x", tag=b"\xff")
    assert client.hkeys(keys.UNACKED) == [b"other"]
    assert client.zrange(keys.UNACKED_INDEX, 0, -1) == [b"other"]
    assert refused.count(client) == 1


def message(tenant_id: str, device_id: str) -> bytes:
    given = {"tenant_id": tenant_id, "device_id": device_id}
    return json.dumps(
        {
            "headers": {"task": "backups.receive"},
            "body": json.dumps([[], given, {}]),
            "properties": {},
        }
    ).encode()


def test_an_erasure_reaches_what_may_hold_the_backup(
    client: redis.Redis, settings: Settings
) -> None:
    inbox = Inbox(client, settings, TENANT)
    kept = [message(TENANT, ID), message(ID, DEVICE)]
    for raw in (message(TENANT, DEVICE), *kept, b"unreadable", b"[" * 100_000):
        put(client, raw)
    assert refused.forget(inbox, DEVICE) == 3
    assert [one.message for one in refused.list_refused(client)] == kept
    assert refused.forget(inbox, None) == 1


@pytest.mark.parametrize("odd", ["not JSON", "[" * 5_000, "5", '{"status": "SUCCESS"}'])
def test_an_answer_takes_the_place_of_what_is_no_backups_record(
    client: redis.Redis, odd: str
) -> None:
    client.set("celery-task-meta-x", odd)
    receipts.store_answer(client, "celery-task-meta-x", "answer", 60)
    assert client.get("celery-task-meta-x") == b"answer"


def test_a_backups_record_gives_way_to_no_answer(client: redis.Redis) -> None:
    record = receipts.pending_record(ID, "digest", ID)
    client.set(keys.result(ID), record, ex=600)
    receipts.store_answer(client, keys.result(ID), "answer", 60)
    receipts.shorten_answer(client, ID, 60)
    assert client.get(keys.result(ID)) == record.encode()
    assert client.ttl(keys.result(ID)) > 500
