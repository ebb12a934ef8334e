"""A worker notes in Redis what it took, but wake-ups in memory alone; what it did not act on goes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.entity import Queue
from kombu.transport import redis as kombu_redis

from confkeep.broker import keys
from confkeep.queue import wakeups
from tasks import commit, stale
from worker.app import app
from worker.process import gated_channel
from worker.process.local import EmbeddedServer

_QUEUE = keys.shard_queue(1)
_ENTITY: Any = Queue(_QUEUE)  # type: ignore[no-untyped-call]


@pytest.fixture
def taker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection of a worker, and what it took: a wake-up and another message."""
    for transport in (kombu_redis.Transport, kombu_redis.SentinelTransport):
        monkeypatch.setattr(transport, "Channel", transport.Channel)
    monkeypatch.setattr(gated_channel, "_gate", None)
    gated_channel.install(app)
    with EmbeddedServer(tmp_path) as server:
        producer = Celery(
            "producer", broker=f"redis+socket://{server.socket}", set_as_current=False
        )
        for task in (commit.commit_inbox, stale.note_stale):
            producer.send_task(task.name, args=("0",), queue=_ENTITY, ignore_result=True)
        with producer.connection_for_read() as connection:
            taken: list[Any] = []
            consumer = producer.amqp.Consumer(
                connection.channel(),
                queues=[_ENTITY],
                on_message=taken.append,
            )
            consumer.consume()
            while len(taken) < 2:
                connection.drain_events(timeout=10)
            yield connection, taken


def test_only_a_wake_up_leaves_no_note_in_the_server(taker: Any) -> None:
    connection, (wakeup, other) = taker
    client = connection.default_channel.client
    assert wakeup.headers["task"] == wakeups.COMMIT_TASK
    assert [tag.decode() for tag in client.hkeys(keys.UNACKED)] == [other.delivery_tag]
    wakeup.ack()
    assert "cmdstat_hdel" not in client.info("commandstats"), "there is nothing to take away"
    other.ack()
    assert not client.exists(keys.UNACKED, keys.UNACKED_INDEX, _QUEUE)
    wakeup.channel.close()
    assert not client.exists(_QUEUE), "what was acknowledged does not come back"


@pytest.mark.parametrize("way", ["the worker ends", "its process was killed"])
def test_what_was_taken_and_not_acted_on_goes_back(taker: Any, way: str) -> None:
    connection, taken = taker
    client = connection.default_channel.client
    if way == "the worker ends":
        taken[0].channel.close()
    else:
        for message in taken:
            message.requeue()
    lying = client.lrange(_QUEUE, 0, -1)
    assert sorted(message.headers["id"] in str(lying) for message in taken) == [True, True]
    assert len(lying) == 2
    assert not client.exists(keys.UNACKED, keys.UNACKED_INDEX)
