"""Hooks on a small Redis, told of events that a test makes up."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from confkeep.queue.events import Event
from confkeep.settings import Settings, load_settings
from tests.receiving import Receiver, receiving
from worker.engine.events import Page
from worker.hooks import progress, sender, senders

TENANT = "aaaa1111-0000-4000-8000-000000000001"
OTHER = "bbbb1111-0000-4000-8000-000000000002"


@dataclass
class Events:
    """All events that there are; a cursor is their number."""

    all: list[Event] = field(default_factory=list)
    emitted: list[Event] = field(default_factory=list)

    def happen(self, *numbers: int, tenant: str = TENANT, **data: Any) -> list[str]:
        """Let backups be committed; returns the events' ids."""
        made = [
            Event(
                id=str(uuid.uuid5(uuid.UUID(tenant), str(number))),
                type="backup.committed",
                at=dt.datetime(2026, 10, 3, tzinfo=dt.UTC),
                tenant_id=tenant,
                device_id=None,
                data={"export_changed": True, **data},
            )
            for number in numbers
        ]
        self.all += made
        return [event.id for event in made]

    def read(
        self,
        _client: redis.Redis,
        _settings: Settings,
        _store: Path | None,
        cursor: str | None,
        *,
        tenants: Collection[str] | None,
        types: Collection[str] | None,
        limit: int,
        wait_s: float = 0,
    ) -> Page:
        at = int(cursor or 0)
        end = time.monotonic() + min(wait_s, 0.05)
        while len(self.all) <= at and time.monotonic() < end:
            time.sleep(0.005)
        found = self.all[at : at + limit]
        chosen = [
            event
            for event in found
            if (not tenants or event.tenant_id in tenants) and (not types or event.type in types)
        ]
        return Page(chosen, str(at + len(found)))


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """The deployment's events, in place of the real reader; and waits that are short."""
    made = Events()
    monkeypatch.setattr(sender, "read_events", made.read)
    monkeypatch.setattr(sender, "cursor_from", lambda *_: str(len(made.all)))
    monkeypatch.setattr(sender, "emit", lambda _client, _settings, e: made.emitted.append(e))
    monkeypatch.setattr(progress, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(progress, "MOST_WAIT_S", 0.02)
    monkeypatch.setattr(sender, "_IDLE_S", 0.01)
    monkeypatch.setattr(senders, "_LOOK_S", 0.01)
    return made


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with fakeredis.FakeRedis() as fake:
        yield fake


@pytest.fixture
def settings() -> Settings:
    return load_settings(hooks_networks="127.0.0.1", lock_ttl_s=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiving() as running:
        yield running
