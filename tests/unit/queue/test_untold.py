"""A retention or an erasure that is killed next to its event is told once, by whoever comes next."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import NotInStore
from confkeep.queue import events, wakeups
from confkeep.settings import Settings
from tests.failpoints import killed_at
from tests.unit.queue.test_forget import DEVICE, OTHER, STAYS, TENANT, fill
from worker.engine import forget, retention, stale, untold
from worker.engine.hold import hold_tenant
from worker.process.local import EmbeddedServer
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.writing.commit import Writer


@pytest.fixture
def settings(
    settings: Settings, real_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    # A tenant that was held is woken by Celery, which has no broker here.
    monkeypatch.setattr(wakeups, "send", lambda *_, **__: None)
    return settings.model_copy(update={"keep_last": 1, "redis_url": real_server.url})


@pytest.fixture
def client(real_server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(real_server.socket)) as client:
        client.flushall()
        yield client


def told(client: redis.Redis) -> list[tuple[str, str | None, str | None]]:
    """What was told of retentions and erasures, each with its tenant and device."""
    rows: Any = client.xrange(keys.EVENTS)
    found = [events.parse(fields[b"event"]) for _, fields in rows]
    return [
        (event.type, event.tenant_id, event.device_id)
        for event in found
        if event is not None and event.type in (events.RETENTION, events.FORGOTTEN)
    ]


def capture(settings: Settings, text: bytes) -> None:
    path = repository_path(settings.git_store_path, TENANT)
    backup = Backup(str(uuid.uuid4()), STAYS, text, None, "poll")
    Writer(create_repository(path)).commit_backups([backup])


def look(client: redis.Redis, settings: Settings) -> None:
    """What a worker does each hour."""
    for shard in range(settings.shards):
        stale.note_shard(client, settings, shard)


#: After all that an event tells of; at the last two it is known that all is done.
_LATE = ("thing-done", "event-due", "event-written")
#: Who comes next: the same again, another holder of the tenant, the hourly look.
Next = Callable[[redis.Redis, Settings], object]


def another(_client: redis.Redis, settings: Settings) -> None:
    with hold_tenant(settings, TENANT):
        pass


def again(_client: redis.Redis, settings: Settings) -> None:
    retention.apply(settings, TENANT)


@pytest.mark.parametrize("failpoint", ["rewritten", "map-settled", *_LATE])
@pytest.mark.parametrize("comes_next", [again, another, look])
def test_a_rewrite_killed_next_to_its_event_is_told_once(
    client: redis.Redis, settings: Settings, failpoint: str, comes_next: Next
) -> None:
    fill(client, settings, TENANT)
    capture(settings, b"later\n")
    with killed_at(failpoint):
        retention.apply(settings, TENANT)
    # Commits go on meanwhile.
    capture(settings, b"later still\n")
    for _ in range(2):
        comes_next(client, settings)
        look(client, settings)
        applied = [one for one in told(client) if one[0] == events.RETENTION]
    assert applied == [(events.RETENTION, TENANT, None)] * (2 if comes_next is again else 1)
    assert not untold.left_in(settings.git_store_path)


def test_an_undo_is_told_once_too(client: redis.Redis, settings: Settings) -> None:
    fill(client, settings, TENANT)
    capture(settings, b"later\n")
    retention.apply(settings, TENANT)
    with killed_at("rewritten"):
        retention.undo(settings, TENANT)
    look(client, settings)
    look(client, settings)
    assert told(client) == [(events.RETENTION, TENANT, None)] * 2


@pytest.mark.parametrize("failpoint", ["map-written", "old-kept"])
def test_a_rewrite_killed_before_it_is_done_is_not_told(
    client: redis.Redis, settings: Settings, failpoint: str
) -> None:
    fill(client, settings, TENANT)
    capture(settings, b"later\n")
    with killed_at(failpoint):
        retention.apply(settings, TENANT)
    look(client, settings)
    assert told(client) == []
    assert not untold.left_in(settings.git_store_path)
    retention.apply(settings, TENANT)
    assert told(client) == [(events.RETENTION, TENANT, None)]


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize(
    ("what", "failpoint"),
    [
        *(("device", name) for name in ("branches-moved", "traces-dropped")),
        ("tenant", "repository-unnamed"),
        *((what, name) for what in ("device", "tenant") for name in _LATE),
    ],
)
def test_an_erasure_that_is_killed_and_repeated_is_told_once(
    client: redis.Redis, settings: Settings, what: str, failpoint: str, *, looks: bool
) -> None:
    device = DEVICE if what == "device" else None
    fill(client, settings, TENANT)
    fill(client, settings, OTHER)

    def erase() -> None:
        if device is None:
            forget.forget_tenant(settings, TENANT)
        else:
            forget.forget_device(settings, TENANT, device)

    with killed_at(failpoint):
        erase()
    is_done = failpoint in _LATE[1:]
    if looks:
        look(client, settings)
        assert bool(told(client)) == is_done
    # Of a tenant that was told, nothing is there any more.
    with suppress(NotInStore):
        erase()
    assert told(client) == [(events.FORGOTTEN, TENANT, device)]
    assert not untold.left_in(settings.git_store_path)


def test_an_erasure_of_nothing_is_not_told(client: redis.Redis, settings: Settings) -> None:
    fill(client, settings, TENANT)
    forget.forget_device(settings, TENANT, str(uuid.uuid4()))
    with pytest.raises(NotInStore):
        forget.forget_tenant(settings, OTHER)
    with pytest.raises(NotInStore):
        forget.forget_device(settings, OTHER, DEVICE)
    assert told(client) == []
    assert not untold.left_in(settings.git_store_path)


def test_a_damaged_note_keeps_nobody_from_the_tenant(
    client: redis.Redis, settings: Settings
) -> None:
    fill(client, settings, TENANT)
    capture(settings, b"later\n")
    with killed_at("rewritten"):
        retention.apply(settings, TENANT)
    [note] = settings.git_store_path.glob("confkeep.untold-*")
    note.write_bytes(note.read_bytes()[:-9])
    another(client, settings)
    assert not note.exists()
