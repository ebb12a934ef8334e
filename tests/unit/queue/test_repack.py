"""Asking for repacks: once, for who needs one, at next to no cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from kombu.exceptions import OperationalError

from confkeep.broker import keys
from confkeep.settings import Settings, load_settings
from tests.bench.fleet import Fleet
from worker.app import app
from worker.engine import repack
from worker.queue.inbox import Inbox
from worker.store.repository.tenant_repository import (
    create_repository,
    open_repository,
    repository_path,
)
from worker.store.upkeep.repack import Repacked, needs_repack
from worker.store.upkeep.repack import repack as repack_repository
from worker.store.writing.commit import Writer

TENANT = "aaaa1111-0000-4000-8000-000000000001"


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with fakeredis.FakeRedis() as fake:
        yield fake


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The messages that were sent: tenant and queue."""
    messages: list[tuple[str, str]] = []
    monkeypatch.setattr(
        app,
        "send_task",
        lambda _name, *, args, queue, **_: messages.append((args[0], queue)),
    )
    return messages


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings(git_store_path=tmp_path, repack_packs=3)
    repository = create_repository(repository_path(tmp_path, TENANT))
    for backup in Fleet(1).batch(4):
        Writer(repository).commit_backups([backup])
    return settings


def test_a_repack_is_queued_once_where_the_commits_are(
    client: redis.Redis, settings: Settings, sent: list[tuple[str, str]]
) -> None:
    repack.ask_if_needed(Inbox(client, settings, TENANT))
    repack.ask_if_needed(Inbox(client, settings, TENANT))
    assert sent == [(TENANT, keys.queue_of(TENANT, settings.shards))]
    assert 0 < int(client.ttl(keys.repack(TENANT))) <= 600


def test_who_has_few_packs_is_left_alone(
    client: redis.Redis, settings: Settings, sent: list[tuple[str, str]]
) -> None:
    for packs in (4, 0):
        changed = settings.model_copy(update={"repack_packs": packs})
        repack.ask_if_needed(Inbox(client, changed, TENANT))
    repack.ask_if_needed(Inbox(client, settings, "aaaa2222-0000-4000-8000-000000000002"))
    assert sent == []
    assert client.keys("*") == []


def test_without_git_nothing_is_queued(
    client: redis.Redis,
    settings: Settings,
    sent: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    repack.ask_if_needed(Inbox(client, settings, TENANT))
    assert sent == []


def test_a_broker_that_is_away_does_not_harm_the_drain(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(app, "send_task", fail)
    repack.ask_if_needed(Inbox(client, settings, TENANT))
    monkeypatch.setattr(client, "set", fail)
    repack.ask_if_needed(Inbox(client, settings, TENANT))


def test_what_a_burst_commits_while_it_is_repacked_is_repacked_too(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The burst's own asks were none, since a repack was asked for, and nobody asks after its end."""
    path = repository_path(settings.git_store_path, TENANT)
    burst = Fleet(1, seed=2).batch(12)
    ran: list[bool | None] = []

    def beside_a_burst(place: Path, *, full: bool | None, **more: Any) -> Repacked:
        done = repack_repository(place, full=full, **more)
        ran.append(full)
        for backup in burst:
            Writer(open_repository(path)).commit_backups([backup])
        burst.clear()
        return done

    monkeypatch.setattr(repack, "get_settings", lambda: settings)
    monkeypatch.setattr(repack, "get_client", lambda _settings: client)
    monkeypatch.setattr(repack, "repack_repository", beside_a_burst)
    client.set(keys.repack(TENANT), "1")
    repack._repack(TENANT, full=True)
    assert ran == [True, None]
    assert not needs_repack(path, most_packs=settings.repack_packs, most_loose=10**6)
    assert not client.exists(keys.repack(TENANT))
    repack._repack(TENANT, full=False)
    assert ran == [True, None, None], "what is small enough is repacked once"
