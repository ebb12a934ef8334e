"""The newest events, for pages that ask again and again: a list is kept, and only what came since is read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.queue.events import COMMITTED, Event, parse
from worker.queue.recent_events import newest

#: Events of a list, and those among which they are looked for: a poll that finds only another date in the header is an
#: event too, of each device of a fleet in each night.
_MOST: Final = 200
_AMONG: Final = 20_000
#: Entries of the stream that are read to bring a list up to date; where more came, it is made anew.
_STEP: Final = 500
#: Seconds after which a list is made anew: an erasure and age take events out of the stream.
_FRESH_S: Final = 60.0
#: Lists that are kept; an event takes some 3 KB.
_LISTS: Final = 16
#: What the text of a change's event holds.
CHANGED: Final = b'"export_changed": true'


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a page shows."""

    #: Those of the tenants with these ids; None means all, and those of no tenant.
    tenants: frozenset[str] | None
    #: Those of this tenant alone, where it is one of them; empty means any.
    tenant: str = ""
    only_changes: bool = False

    @property
    def holding(self) -> bytes:
        """A part of the text of each of them: parsing all others would take most of the time."""
        if self.only_changes:
            return CHANGED
        tenants = (self.tenant,) if self.tenant else self.tenants or ()
        return next(iter(tenants)).encode() if len(tenants) == 1 else b""

    def lets_through(self, event: Event) -> bool:
        if self.tenants is not None and event.tenant_id not in self.tenants:
            return False
        if self.tenant not in ("", event.tenant_id):
            return False
        is_change = event.type == COMMITTED and event.data.get("export_changed") is True
        return is_change or not self.only_changes


@dataclass(frozen=True, slots=True)
class _List:
    """Events, newest first."""

    made_s: float
    #: The place in the stream of the last entry that was looked at.
    last: bytes
    events: list[Event]


class Recent:
    """The last used lists. Used by threads; a race costs a look."""

    def __init__(self) -> None:
        self._lists: dict[Wanted, _List] = {}

    def newest(self, client: redis.Redis, wanted: Wanted) -> list[Event]:
        """The last events that are wanted, newest first; one that was told twice stands there once.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        known = self._lists.get(wanted)
        if known is None and len(self._lists) >= _LISTS:
            self._lists.clear()
        found = (None if known is None else _follow(client, wanted, known)) or _make(client, wanted)
        self._lists[wanted] = found
        return found.events


def shown_of(event: Event, names: Mapping[str, str | None]) -> dict[str, Any]:
    """What each page shows of an event; `names` are those of the tenants."""
    return {
        "at": event.at,
        "tenant_id": event.tenant_id,
        "tenant_name": names.get(event.tenant_id or ""),
        "device_id": event.device_id,
        "name": event.data.get("device_name") or event.data.get("name"),
        "sha": event.data.get("sha") if event.device_id else None,
        "suspect": event.data.get("suspect"),
    }


def _make(client: redis.Redis, wanted: Wanted) -> _List:
    # The place first: what comes meanwhile is read twice.
    entries = _entries(client, b"-", 1)
    last = entries[0][0] if entries else b""
    holding = wanted.holding
    among = _AMONG if holding else None
    events = newest(client, _MOST, wanted=wanted.lets_through, holding=holding, among=among)
    return _List(time.monotonic(), last, events)


def _follow(client: redis.Redis, wanted: Wanted, known: _List) -> _List | None:
    """A list with what came since; None where it has to be made anew."""
    if not known.last or time.monotonic() - known.made_s >= _FRESH_S:
        return None
    entries = _entries(client, known.last, _STEP)
    if not entries or entries[-1][0] != known.last:
        return None
    events: dict[str, Event] = {}
    for _place, fields in entries[:-1]:
        text = (fields or {}).get(b"event", b"")
        event = parse(text) if wanted.holding in text else None
        if event is not None and wanted.lets_through(event):
            events[event.id] = event
    events |= {event.id: event for event in known.events}
    return _List(known.made_s, entries[0][0], [*events.values()][:_MOST])


def _entries(client: redis.Redis, first: bytes, most: int) -> list[tuple[bytes, Any]]:
    """The newest entries of the stream, newest first, at most `most`, none before `first`."""
    pipe = client.pipeline(transaction=False)
    pipe.xrevrange(keys.EVENTS, min=first, count=most)
    (rows,) = redis_values.answers(pipe)
    return rows or []
