"""The small Redis parts, each test on fakeredis and again on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
import redis

from confkeep.queue import wakeups
from confkeep.settings import Settings, load_settings
from tests.turns import TENANT
from worker.process.local import EmbeddedServer
from worker.queue.inbox import Inbox


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    if request.param == "fake":
        with fakeredis.FakeRedis() as fake:
            yield fake
        return
    server: EmbeddedServer = request.getfixturevalue("real_server")
    with redis.Redis(unix_socket_path=str(server.socket)) as real:
        real.flushall()
        yield real


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        git_store_path=tmp_path / "store", staging_path=tmp_path / "staging", receipt_ttl_s=3600
    )


@pytest.fixture
def inbox(client: redis.Redis, settings: Settings) -> Inbox:
    """The inbox of the one tenant that most tests need."""
    return Inbox(client, settings, TENANT)


@pytest.fixture(autouse=True)
def asked_for_stale(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which a sweep asked for stale devices; the broker itself is Celery's."""
    asked: list[Settings] = []
    monkeypatch.setattr(wakeups, "ask_for_stale", lambda _app, settings: asked.append(settings))
    return asked
