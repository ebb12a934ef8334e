"""What comes too late for a connection is told as a lost connection, which Celery knows how to answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.transport.redis import Channel, Transport

from worker.broker.gate import Gate
from worker.process import gated_channel
from worker.process.gated_channel import GatedChannel
from worker.process.local import EmbeddedServer

Open = Callable[[type], Any]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens connections whose channels are of a class, which may be that of workers."""
    monkeypatch.setattr(gated_channel, "_gate", Gate({}))
    with EmbeddedServer(tmp_path) as server:

        def open_connection(channel: type) -> Any:
            monkeypatch.setattr(Transport, "Channel", channel)
            return Connection(f"redis+socket://{server.socket}")  # type: ignore[no-untyped-call]

        yield open_connection


def sent_and_taken(connection: Any) -> Any:
    queue = connection.SimpleQueue("a portal's")
    queue.put({"number": 1})
    return queue.get(timeout=10)


@pytest.mark.parametrize("answer", ["ack_log_error", "reject_log_error"])
def test_a_late_answer_is_no_fault_of_the_worker(opened: Open, answer: str) -> None:
    for channel in (Channel, GatedChannel):
        with opened(channel) as connection:
            message = sent_and_taken(connection)
            errors = connection.connection_errors
            # What Celery does with a connection that it lost, and kombu with one that fails.
            connection.collect()
            message.channel._disconnect_pools()
            told = logging.getLogger("test")
            if channel is GatedChannel:
                getattr(message, answer)(told, errors)
            else:
                with pytest.raises(AttributeError):
                    getattr(message, answer)(told, errors)
            assert not message.acknowledged


def test_an_open_channel_works_as_ever(opened: Open) -> None:
    with opened(GatedChannel) as connection:
        message = sent_and_taken(connection)
        assert message.payload == {"number": 1}
        message.ack()
        assert message.acknowledged
