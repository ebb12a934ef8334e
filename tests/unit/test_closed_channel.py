"""What comes too late for a connection is told as a lost connection, which Celery knows how to answer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.transport.redis import Channel

from worker.process import closed_channel
from worker.process.local import EmbeddedServer


@pytest.fixture(autouse=True)
def own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test have the method as kombu has it, whatever this process did before."""
    method = Channel._connparams
    monkeypatch.setattr(Channel, "_connparams", getattr(method, "__wrapped__", method))


def opened(server: EmbeddedServer) -> Any:
    return Connection(f"redis+socket://{server.socket}")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("answer", ["ack_log_error", "reject_log_error"])
def test_a_late_answer_is_no_fault_of_the_worker(tmp_path: Path, answer: str) -> None:
    with EmbeddedServer(tmp_path) as server:
        for installed in (False, True):
            if installed:
                closed_channel.install()
                closed_channel.install()
            with opened(server) as connection:
                queue: Any = connection.SimpleQueue("backups.receive")
                queue.put({"number": 1})
                message = queue.get(timeout=10)
                errors = connection.connection_errors
                # What Celery does with a connection that it lost, and kombu with one that fails.
                connection.collect()
                message.channel._disconnect_pools()
                told = logging.getLogger("test")
                if installed:
                    getattr(message, answer)(told, errors)
                else:
                    with pytest.raises(AttributeError):
                        getattr(message, answer)(told, errors)
                assert not message.acknowledged


def test_an_open_channel_works_as_ever(tmp_path: Path) -> None:
    closed_channel.install()
    with (
        EmbeddedServer(tmp_path) as server,
        opened(server) as connection,
    ):
        queue: Any = connection.SimpleQueue("backups.receive")
        queue.put({"number": 1})
        message = queue.get(timeout=10)
        assert message.payload == {"number": 1}
        message.ack()
        assert message.acknowledged
