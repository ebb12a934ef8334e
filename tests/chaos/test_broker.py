"""The faults of the broker do what they say: a real server, and clients who know what they were told."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos import broker
from tests.proxy import Proxy
from tests.servers import wait_for
from worker.process.local import EmbeddedServer

_STEPS = 4
_MOST_TEARS = 12


class Client(threading.Thread):
    """Writes transactions of four keys, and remembers which of them were answered."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.sent = 0
        self.answered: list[str] = []
        self.ending = threading.Event()
        self._port = proxy.port

    def run(self) -> None:
        none = Retry(NoBackoff(), 0)
        with redis.Redis(port=self._port, socket_timeout=2, retry=none) as client:
            while not self.ending.is_set():
                self.sent += 1
                name = f"{self.name}:{self.sent}"
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    with client.pipeline() as pipe:
                        for step in range(_STEPS):
                            pipe.set(f"{name}:{step}", "x" * 100)
                        pipe.execute()
                    self.answered.append(name)


def test_a_torn_file_keeps_what_was_answered_and_brings_beginnings_back(tmp_path: Path) -> None:
    chance = random.Random(3)
    beginnings = 0
    with (
        EmbeddedServer(tmp_path) as server,
        Proxy(server.socket) as proxy,
        redis.Redis(unix_socket_path=str(server.socket), socket_timeout=10) as direct,
    ):
        clients = [Client(proxy, f"c{number}") for number in range(3)]
        for client in clients:
            client.start()
        for tear in range(_MOST_TEARS):
            more = {client: len(client.answered) + 20 for client in clients}
            wait_for(lambda: all(len(c.answered) > n for c, n in more.items()), "some answers")  # noqa: B023 - waited for in this turn
            broker.kill_and_tear(server, (proxy,), chance, away_s=0)
            more = {client: len(client.answered) for client in clients}
            # The dangling beginning ends with the next transaction.
            wait_for(lambda: all(len(c.answered) > n for c, n in more.items()), "an answer")  # noqa: B023
            broker.restart(server)
            answered = [name for client in clients for name in client.answered]
            there = {name.decode() for name in direct.keys("c*")}
            for name in answered:
                lost = {f"{name}:{step}" for step in range(_STEPS)} - there
                assert not lost, f"answered, and gone after tear {tear + 1}: {sorted(lost)}"
            counts = {
                sum(f"{client.name}:{number}:{step}" in there for step in range(_STEPS))
                for client in clients
                for number in range(1, client.sent)
            }
            beginnings += bool(counts - {0, _STEPS})
            if beginnings and tear >= 3:
                break
        for client in clients:
            client.ending.set()
        for client in clients:
            client.join(10)
    assert beginnings, "no beginning of a transaction ever came back"


@pytest.mark.parametrize("kind", broker.REFUSALS)
def test_a_refusal_is_what_it_is_called_and_keeps_all_data(tmp_path: Path, kind: str) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        redis.Redis(unix_socket_path=str(server.socket), socket_timeout=10) as client,
    ):
        client.set("before", "x")
        broker.REFUSALS[kind](client, server.data)
        with pytest.raises(redis.RedisError) as refused:
            client.set("refused", "x")
        words = {"readonly": "read only replica", "oom": "maxmemory", "noreplicas": "replicas"}
        assert words.get(kind, kind) in str(refused.value).lower()
        broker.restart(server)
        broker.REFUSALS[kind](client, server.data)
        broker.end_refusals(client)
        client.set("after", "x")
        assert sorted(client.keys("*")) == [b"after", b"before"]
