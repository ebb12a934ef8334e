"""A call of many backups: chunk after chunk, in order, and none is sent behind one that was refused."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from confkeep import enqueue
from confkeep.errors import BrokerUnavailable, InboxFull, StagingUnavailable
from confkeep.models import BackupFields
from confkeep.queue import acceptance, staging, wakeups
from confkeep.queue.acceptance import Accepted, Submission
from confkeep.settings import Settings, load_settings
from tests.turns import DEVICE, TENANT
from worker.queue.inbox import Inbox

Accept = Callable[[redis.Redis, Settings, list[Submission]], list[Accepted]]


@pytest.fixture(autouse=True)
def small_chunks(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    few = settings.model_copy(update={"inbox_max_backups": 7})
    monkeypatch.setattr(enqueue, "get_settings", lambda: few)
    monkeypatch.setattr(enqueue, "get_client", lambda _settings: client)
    monkeypatch.setattr(enqueue, "_CHUNK_BACKUPS", 2)
    monkeypatch.setattr(wakeups, "send", lambda *_, **__: None)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before, "a call leaves no thread"


def backups(count: int) -> list[BackupFields]:
    return [
        {
            "tenant_id": TENANT,
            "device_id": DEVICE,
            "export_text": f"/ip {n}",
            "message": f"{n}",
            "backup_id": str(uuid.UUID(int=n + 1)),
        }
        for n in range(count)
    ]


def waiting(client: redis.Redis) -> list[str]:
    return [one.entry.message for one in Inbox(client, load_settings(), TENANT).peek(99)]


def slowly(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[int]:
    """Let something happen before each chunk is accepted; returns the sizes of those that were."""
    sizes: list[int] = []
    accept = acceptance.accept

    def late(client: redis.Redis, settings: Settings, given: list[Submission]) -> list[Accepted]:
        before(len(sizes))
        sizes.append(len(given))
        return accept(client, settings, given)

    monkeypatch.setattr(acceptance, "accept", late)
    return sizes


def test_the_next_chunk_is_prepared_while_the_server_works(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = threading.Semaphore(0)
    prepare = enqueue._Call.prepare

    def told(call: enqueue._Call, payloads: Any) -> list[Submission]:
        done = prepare(call, payloads)
        prepared.release()
        return done

    def one_ahead(number: int) -> None:
        # Its own, and the one behind it.
        for _ in range(2 if number == 0 else 1 if number < 2 else 0):
            assert prepared.acquire(timeout=20)

    monkeypatch.setattr(enqueue._Call, "prepare", told)
    sizes = slowly(monkeypatch, one_ahead)
    results = enqueue.enqueue_backups(backups(5))
    assert sizes == [2, 2, 1]
    assert waiting(client) == [f"{n}" for n in range(5)]
    assert [result.id for result in results] == [str(uuid.UUID(int=n + 1)) for n in range(5)]


def test_nothing_is_sent_behind_a_refusal(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = slowly(monkeypatch, lambda _number: None)
    with pytest.raises(InboxFull):
        enqueue.enqueue_backups(backups(12))
    assert sizes == [2, 2, 2, 2]
    assert waiting(client) == [f"{n}" for n in range(7)]


def test_an_error_of_the_server_ends_the_call(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(number: int) -> None:
        if number == 1:
            raise BrokerUnavailable("away")

    sizes = slowly(monkeypatch, away)
    with pytest.raises(BrokerUnavailable, match="away"):
        enqueue.enqueue_backups(backups(6))
    assert (sizes, waiting(client)) == ([2], ["0", "1"])


def test_what_is_on_its_way_arrives_before_the_call_ends_with_an_error(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()
    stage = staging.RedisStaging.stage

    def full(store: Any, tenant: str, entry: Any, contents: Any) -> Any:
        if entry.message == "2":
            failed.set()
            raise StagingUnavailable("staging: No space left on device")
        return stage(store, tenant, entry, contents)

    monkeypatch.setattr(staging.RedisStaging, "stage", full)
    slowly(monkeypatch, lambda _number: assert_set(failed))
    with pytest.raises(StagingUnavailable):
        enqueue.enqueue_backups(backups(6))
    assert waiting(client) == ["0", "1"]


def assert_set(event: threading.Event) -> None:
    assert event.wait(20)


def test_without_a_further_thread_it_goes_on(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    enqueue.enqueue_backups(backups(5))
    assert waiting(client) == [f"{n}" for n in range(5)]
