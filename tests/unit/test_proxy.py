"""The proxy does to connections what it says."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.proxy import Proxy
from worker.process.local import EmbeddedServer


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with EmbeddedServer(tmp_path) as server, Proxy(server.socket) as proxy:
        yield proxy


def client_of(proxy: Proxy) -> redis.Redis:
    return redis.Redis(port=proxy.port, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))


def test_it_forwards_cuts_stalls_and_delays(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        data = bytes(range(256)) * 4096
        client.set("key", data)
        assert client.get("key") == data
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as raw:
            raw.sendall(b"PING\r\n")
            assert raw.recv(100) == b"+PONG\r\n"
            assert proxy.cut() == 2
            assert raw.recv(100) == b""
        assert client.get("key") == data, "a new connection works"
        assert proxy.stall() == 1
        with pytest.raises(redis.TimeoutError):
            client.set("key", "late")
        assert client.get("key") == data, "what was swallowed never arrives"
        proxy.delay(0.1)
        start = time.monotonic()
        client.ping()
        assert time.monotonic() - start > 0.15


def test_what_is_withheld_was_done_and_is_never_told(proxy: Proxy, tmp_path: Path) -> None:
    with client_of(proxy) as client:
        client.set("key", "before")
        proxy.withhold()
        with pytest.raises(redis.TimeoutError):
            client.set("key", "unanswered")
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as raw:
            raw.sendall(b"GET key\r\n")
            raw.settimeout(0.3)
            with pytest.raises(TimeoutError):
                raw.recv(100)
            assert proxy.release() >= 1
            raw.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(100) == b""
        assert client.get("key") == b"unanswered"
