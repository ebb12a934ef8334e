"""Lists of events that pages keep: what they say, and when they are made anew."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from tests.turns import TENANT
from worker.http.pages import recent
from worker.http.pages.recent import Recent, Wanted
from worker.queue.recent_events import newest

OTHER = str(uuid.UUID(int=9))


def some_events(first: int, count: int) -> list[Event]:
    """Polls of two tenants, each fifth of which is a change, and what concerns no tenant."""
    found = []
    for number in range(first, first + count):
        tenant = (TENANT, OTHER, None)[number % 3]
        type_ = events.HOOK_DISABLED if tenant is None else events.COMMITTED
        data = {"export_changed": number % 5 == 0}
        found.append(events.new(type_, tenant, None, data=data, about=[number]))
    return found


def test_a_list_of_events_that_is_kept_says_what_one_made_anew_says(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def counted(*arguments: Any, **options: Any) -> list[Event]:
        made.append(arguments)
        return newest(*arguments, **options)

    monkeypatch.setattr(recent, "newest", counted)
    monkeypatch.setattr(recent, "_MOST", 30)
    kept = Recent()
    of_each = [
        *(Wanted(None), Wanted(None, only_changes=True), Wanted(frozenset({OTHER}))),
        *(Wanted(None, TENANT), Wanted(frozenset({OTHER}), TENANT)),
    ]
    first = 0
    for count in (20, 0, 1, 7, 100, 0, 40):
        events.emit(client, settings, *some_events(first, count))
        first += count
        for wanted in of_each:
            made.clear()
            found = kept.newest(client, wanted)
            assert len(made) == (first == count), "it is made once"
            assert found == Recent().newest(client, wanted)
    assert [len(kept.newest(client, wanted)) for wanted in of_each] == [30, 23, 30, 30, 0]


def test_a_list_of_events_is_made_anew_where_it_may_be_wrong(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, wanted = Recent(), Wanted(None)

    def listed() -> list[str]:
        return [event.id for event in kept.newest(client, wanted)]

    events.emit(client, settings, *some_events(0, 3))
    found: Any = client.xrange(keys.EVENTS)
    first, _second, last = (place for place, _fields in found)
    ids = listed()
    assert len(ids) == 3
    client.xdel(keys.EVENTS, first)
    with monkeypatch.context() as later:
        later.setattr(recent, "_FRESH_S", 0.0)
        assert listed() == ids[:2], "a minute later"
    client.xdel(keys.EVENTS, last)
    assert listed() == ids[1:2], "its place is gone"
    events.emit(client, settings, *some_events(10, 600))
    assert len(listed()) == 200, "more came than one step reads"
