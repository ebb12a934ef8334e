"""Events: one for each commit, in its tenant's order, from the stream or from git, whatever is lost."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import InvalidInput, StoreUnavailable
from confkeep.queue import acceptance, event_stream, events
from confkeep.queue.acceptance import Submission
from confkeep.queue.cursor import Cursor
from confkeep.queue.events import Event
from confkeep.settings import Settings
from tests.judge import git
from tests.turns import DEVICE, TENANT, submission
from worker.engine import drain
from worker.engine.events import cursor_from, read_events
from worker.http.pages.recent import CHANGED
from worker.queue import backoff
from worker.queue.inbox import Inbox
from worker.queue.recent_events import newest
from worker.store.repository.tenant_repository import repository_path
from worker.store.rewriting.forget import forget_device

OTHER = str(uuid.UUID(int=9))


def entries(client: redis.Redis) -> list[tuple[bytes, dict[Any, Any]]]:
    """The stream's entries."""
    found: Any = client.xrange(keys.EVENTS)
    return list(found)


@pytest.fixture
def commit(client: redis.Redis, settings: Settings) -> Callable[..., None]:
    """Commits backups of these numbers."""

    def commit(*numbers: int, tenant: str = TENANT) -> None:
        ones = [submission(number, f"/ip {number}".encode(), tenant) for number in numbers]
        acceptance.accept(client, settings, ones)
        drain.drain_inbox(Inbox(client, settings, tenant))

    return commit


class Reader:
    """A reader that keeps its cursor, and all that it was told."""

    def __init__(self, client: redis.Redis, settings: Settings, limit: int = 100) -> None:
        self.client = client
        self.settings = settings
        self.limit = limit
        self.cursor: str | None = None
        self.told: list[Event] = []

    def read(self, **more: object) -> list[Event]:
        """Everything that is new, page by page."""
        new: list[Event] = []
        while True:
            page = read_events(
                self.client,
                self.settings,
                self.settings.git_store_path,
                self.cursor,
                limit=self.limit,
                **more,  # type: ignore[arg-type]
            )
            assert len(page.events) <= self.limit
            self.cursor = page.cursor
            if not page.events:
                self.told += new
                return new
            new += page.events

    def ids(self, tenant: str = TENANT) -> list[str]:
        """The backup ids that were told of a tenant, each when it was first told."""
        told = (e for e in self.told if e.tenant_id == tenant and e.type in events.OF_COMMITS)
        return list(dict.fromkeys(str(event.data["backup_id"]) for event in told))


@pytest.fixture(params=[1, 100])
def reader(client: redis.Redis, settings: Settings, request: pytest.FixtureRequest) -> Reader:
    return Reader(client, settings, request.param)


def backups(settings: Settings, tenant: str = TENANT) -> list[str]:
    """The backup ids in a tenant's git, oldest first."""
    path = repository_path(settings.git_store_path, tenant)
    text = git(path, "rev-list", "--reverse", "--header", "main").decode("utf-8", "replace")
    return [line.split()[1] for line in text.splitlines() if line.startswith("backup-id ")]


def test_a_commit_is_told_with_its_receipt(
    reader: Reader, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1)
    [event] = reader.read()
    assert (event.type, event.tenant_id, event.device_id) == (events.COMMITTED, TENANT, DEVICE)
    assert event.id == events.event_id(events.COMMITTED, submission(1).entry.backup_id)
    tip = git(repository_path(settings.git_store_path, TENANT), "rev-parse", "main").decode()
    assert event.data["sha"] == tip.strip()
    assert event.data["export_changed"] is True
    assert event.data["suspect"] is None
    assert event.data["parent_sha"] is None
    assert event.data["labels"] == {"name": None, "address": None, "model": None, "group": None}
    assert event.at == dt.datetime.fromisoformat(event.data["committed_at"])


def test_git_tells_the_same_event_as_the_stream(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1, 2)
    commit(3)
    late = Reader(client, settings)
    from_git = late.read()
    part = event_stream.read(client, Cursor().place, Cursor().place, 100)
    from_stream = [events.parse(entry.text) for entry in part.entries]
    assert [event.model_dump() for event in from_git] == [
        event.model_dump() for event in from_stream if event
    ]


def test_each_is_told_once_and_in_order(
    reader: Reader, settings: Settings, commit: Callable[..., None]
) -> None:
    for number in range(0, 30, 3):
        commit(number, number + 1, number + 2)
        if number % 2:
            reader.read()
            commit(100 + number, tenant=OTHER)
    reader.read()
    assert len(reader.told) == len({event.id for event in reader.told})
    assert reader.ids() == backups(settings)
    assert reader.ids(OTHER) == backups(settings, OTHER)


@pytest.mark.parametrize("loss", ["trimmed", "emptied", "replaced", "deleted"])
def test_a_reader_that_was_away_misses_no_commit(
    reader: Reader,
    client: redis.Redis,
    settings: Settings,
    commit: Callable[..., None],
    loss: str,
) -> None:
    commit(1, 2)
    commit(3, tenant=OTHER)
    reader.read()
    commit(4, 5)
    match loss:
        case "trimmed":
            client.xtrim(keys.EVENTS, maxlen=1, approximate=False)
        case "emptied":
            client.delete(keys.EVENTS)
        case "replaced":
            # By a server whose clock is ahead.
            client.delete(keys.EVENTS)
            client.xadd(keys.EVENTS, {"event": "{}"}, id="99999999999999-0")
        case _:
            for stream_id, _fields in entries(client):
                client.xdel(keys.EVENTS, stream_id)
    commit(6)
    commit(7, tenant=OTHER)
    reader.read()
    assert len({event.id for event in reader.told}) == len(reader.told)
    assert reader.ids() == backups(settings)
    assert reader.ids(OTHER) == backups(settings, OTHER)
    assert [event.type for event in reader.told].count(events.SKIPPED) == 1
    commit(8)
    assert [event.data["backup_id"] for event in reader.read()] == [submission(8).entry.backup_id]


def test_the_last_event_stays_however_old(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    """Who has it sees that nothing came behind it, and need not go through git."""
    commit(1, 2)
    old = [fields for _id, fields in entries(client)]
    client.delete(keys.EVENTS)
    for number, fields in enumerate(old, start=1):
        client.xadd(keys.EVENTS, fields, id=f"{number}-0")
    reader = Reader(client, settings)
    reader.read()
    event_stream.trim(client, settings)
    assert [fields for _id, fields in entries(client)] == old[-1:]
    assert reader.read() == []


def test_what_the_stream_never_had_is_told_before_what_follows(
    reader: Reader, client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    """A worker of an earlier release, or a server that came back with older data."""
    commit(1)
    reader.read()
    commit(2, 3)
    for stream_id, _fields in entries(client)[-2:]:
        client.xdel(keys.EVENTS, stream_id)
    commit(4)
    reader.read()
    assert reader.ids() == backups(settings)
    assert events.SKIPPED not in {event.type for event in reader.told}


def test_a_repeated_entry_is_passed_over(
    reader: Reader, client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1, 2)
    reader.read()
    commit(3)
    fields = entries(client)[-1][1]
    for _stream_id, earlier in entries(client):
        client.xadd(keys.EVENTS, earlier)
    client.xadd(keys.EVENTS, fields)
    commit(4)
    reader.read()
    assert [event.data["backup_id"] for event in reader.told] == backups(settings)


def test_a_reader_goes_on_from_any_event(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1, 2)
    commit(3, tenant=OTHER)
    commit(4)
    whole = Reader(client, settings)
    whole.read()
    every = [event.id for event in whole.told]
    for place, event in enumerate(whole.told):
        again = Reader(client, settings)
        again.cursor = event.cursor
        again.read()
        assert [one.id for one in again.told] == every[place + 1 :]


def test_filters(client: redis.Redis, settings: Settings, commit: Callable[..., None]) -> None:
    commit(1)
    commit(2, tenant=OTHER)
    only = Reader(client, settings)
    only.read(tenants=[OTHER])
    assert [event.tenant_id for event in only.told] == [OTHER]
    none = Reader(client, settings)
    assert none.read(types=[events.DEAD]) == []
    events.emit(
        client, settings, events.new(events.DEAD, TENANT, data={"reason": "x"}, about=("x",))
    )
    assert [event.type for event in none.read(types=[events.DEAD])] == [events.DEAD]


def test_since_a_moment(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1)
    after = Reader(client, settings)
    after.cursor = cursor_from(client, None)
    before = Reader(client, settings)
    before.cursor = cursor_from(client, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    commit(2)
    after.read()
    before.read()
    assert after.ids() == backups(settings)[1:]
    assert before.ids() == backups(settings)


def test_an_emptied_redis_is_noticed_though_nothing_happens(
    reader: Reader, client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1)
    client.delete(keys.EVENTS)
    reader.read()
    commit(2)
    client.delete(keys.EVENTS)
    event_stream.begin(client)
    event_stream.begin(client)
    assert len(entries(client)) == 1
    reader.read()
    assert reader.ids() == backups(settings)
    assert reader.read() == []


def test_since_a_moment_before_there_was_a_stream(
    reader: Reader, client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1, 2)
    client.delete(keys.EVENTS)
    reader.cursor = cursor_from(client, dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    reader.read()
    assert reader.ids() == backups(settings)
    assert reader.read() == []


@pytest.mark.parametrize("loss", ["nothing", "emptied"])
def test_a_rewritten_history_is_not_told_again(
    reader: Reader, client: redis.Redis, settings: Settings, loss: str
) -> None:
    """An erasure changes the ids of all commits after the device's first, and takes some away."""
    gone = dataclasses.replace(submission(1).entry, device_id=str(uuid.UUID(int=77)))
    ones = [Submission(TENANT, gone, b"/ip", None), *map(submission, range(2, 5))]
    last = dataclasses.replace(submission(5).entry, device_id=gone.device_id)
    ones.append(Submission(TENANT, last, b"/ip", None))
    for one in ones[:4]:
        acceptance.accept(client, settings, [one])
    drain.drain_inbox(Inbox(client, settings, TENANT))
    reader.read()
    path = repository_path(settings.git_store_path, TENANT)
    forget_device(path, gone.device_id, now_s=int(time.time()))
    if loss == "emptied":
        client.delete(keys.EVENTS)
    acceptance.accept(client, settings, [submission(6)])
    drain.drain_inbox(Inbox(client, settings, TENANT))
    new = [event for event in reader.read() if event.type in events.OF_COMMITS]
    assert [event.data["backup_id"] for event in new] == [submission(6).entry.backup_id]
    # Now the last commit that was told goes.
    acceptance.accept(client, settings, ones[4:])
    drain.drain_inbox(Inbox(client, settings, TENANT))
    reader.read()
    forget_device(path, gone.device_id, now_s=int(time.time()))
    if loss == "emptied":
        client.delete(keys.EVENTS)
    acceptance.accept(client, settings, [submission(7)])
    drain.drain_inbox(Inbox(client, settings, TENANT))
    reader.read()
    assert [one for one in reader.ids() if one in backups(settings)] == backups(settings)
    assert reader.told[-1].data["backup_id"] == submission(7).entry.backup_id


@pytest.mark.parametrize("text", ["", "x", "AA", "~~~~", "AQD_____________________", "A" * 50])
def test_a_foreign_cursor_is_refused(client: redis.Redis, settings: Settings, text: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read_events(client, settings, settings.git_store_path, text)


def test_a_stall_and_its_end_are_told_once(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    settings.git_store_path.mkdir()
    reader = Reader(client, settings)
    acceptance.accept(client, settings, [submission(1)])
    box = Inbox(client, settings, TENANT)
    for _ in range(backoff.STALLED_TRIES - 1):
        backoff.failed(box, StoreUnavailable("no space left"))
    assert reader.read() == []
    for _ in range(3):
        backoff.failed(box, StoreUnavailable("no space left"))
    [stalled] = reader.read()
    assert (stalled.type, stalled.tenant_id) == (events.STALLED, TENANT)
    assert stalled.data["reason"] == "StoreUnavailable: no space left"
    assert uuid.UUID(stalled.id).version == 8
    commit(2)
    resumed, *commits = reader.read()
    told = {event.type for event in [resumed, *commits]}
    assert told == {events.RESUMED, events.COMMITTED}
    assert len({stalled.id, *(event.id for event in [resumed, *commits])}) == 4
    commit(3)
    assert [event.type for event in reader.read()] == [events.COMMITTED]


def test_a_dead_letter_is_told(client: redis.Redis, settings: Settings) -> None:
    acceptance.accept(client, settings, [submission(1), submission(2)])
    client.delete(keys.staged(TENANT, submission(1).entry.backup_id))
    drain.drain_inbox(Inbox(client, settings, TENANT))
    reader = Reader(client, settings)
    reader.read()
    [dead] = [event for event in reader.told if event.type == events.DEAD]
    assert dead.data["backup_id"] == submission(1).entry.backup_id
    assert dead.data["kind"] == "StagedBytesMissing"
    assert dead.device_id == DEVICE


def test_a_change_is_found_behind_a_nights_polls_that_found_none(
    client: redis.Redis, settings: Settings, commit: Callable[..., None]
) -> None:
    commit(1)
    [change] = newest(client, 1)
    same = {**change.data, "export_changed": False}
    polls = [
        events.new(events.COMMITTED, TENANT, DEVICE, data=same, about=[number])
        for number in range(1_200)
    ]
    events.emit(client, settings, *polls)
    assert newest(client, 5, holding=CHANGED, among=2_000) == [change]
    assert newest(client, 5, holding=CHANGED, among=1_000) == []
    assert newest(client, 5, wanted=lambda event: event.id == change.id, among=2_000) == [change]
    assert [event.id for event in newest(client, 2)] == [polls[-1].id, polls[-2].id]
