"""Reads the stream `confkeep:events`, and tells a reader whether its place in it is still there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.queue import events
from confkeep.queue.cursor import Place, place_of
from confkeep.settings import Settings

_FIELD: Final = b"event"
#: Entries looked at in one step of an erasure.
_SCANNED: Final = 500
#: A command that waits has to end before its client gives up.
_PART_OF_TIMEOUT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: its place, and its text."""

    place: Place
    text: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """What was read in one step of the server."""

    #: Nothing between the place to compare with and the entries was removed.
    whole: bool
    entries: list[Entry]
    #: The last entry of all, read just before; the beginning if there is none.
    last: Place


def read(client: redis.Redis, after: Place, compared: Place, count: int) -> Part:
    """The next entries after a place.

    Args:
        compared: that this one's entry is there proves that none behind it was removed. If it means no
            entry, an entry before it proves it, or that there is none at all.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=True)
    pipe.xrange(keys.EVENTS, compared.id, compared.id)
    pipe.xrange(keys.EVENTS, count=1)
    pipe.xrevrange(keys.EVENTS, count=1)
    pipe.xrange(keys.EVENTS, f"({after.id}", count=count)
    same, first, last, found = (_entries(rows) for rows in redis_values.answers(pipe))
    if compared.check:
        whole = bool(same) and same[0].place == compared
    else:
        whole = not first or first[0].place.is_at_or_before(compared)
    return Part(whole, found, last[0].place if last else Place())


def wait(client: redis.Redis, after: Place, wait_s: float, timeout_s: float) -> None:
    """Wait for an entry behind a place; returns earlier too.

    Args:
        wait_s: most seconds.
        timeout_s: seconds after which the client gives up on an answer.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    wait_s = min(wait_s, timeout_s * _PART_OF_TIMEOUT)
    pipe = client.pipeline(transaction=False)
    pipe.type(keys.EVENTS)
    pipe.xread({keys.EVENTS: after.id}, count=1, block=max(1, int(wait_s * 1000)))
    kind, _found = redis_values.answers(pipe)
    if kind not in (b"none", b"stream"):
        # Until a script sets it aside.
        time.sleep(wait_s)


def begin(client: redis.Redis) -> None:
    """Begin the stream with an entry that says nothing, if there is none: a reader then sees that it is another
    one than before, also where nothing happens.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    if not client.exists(keys.EVENTS):
        client.xadd(keys.EVENTS, {_FIELD: f"begun {uuid.uuid4()}"})


def trim(client: redis.Redis, settings: Settings) -> None:
    """Remove events that are too old, but for the last one: a reader who has that one misses nothing.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    found, now_ms = _last_and_time(client)
    for last in found:
        oldest_ms = int(now_ms - settings.events_days * 86_400_000)
        oldest = f"{oldest_ms}-0" if oldest_ms < last.place.ms else last.place.id
        client.xtrim(keys.EVENTS, minid=oldest, approximate=False)


def forget(client: redis.Redis, ids: Collection[bytes]) -> int:
    """Delete the events that name all these ids, of a tenant, or of one and its device; but none of an erasure.

    Returns:
        How many there were.

    Raises:
        BrokerUnavailable: Redis did not answer; call again.
    """
    place, gone = Place(), 0
    while True:
        part = read(client, place, place, _SCANNED)
        if not part.entries:
            return gone
        place = part.entries[-1].place
        named = [each for each in part.entries if all(id_ in each.text for id_ in ids)]
        own = [each.place.id for each in named if not _is_erasure(each)]
        with broker_errors():
            gone += client.xdel(keys.EVENTS, *own) if own else 0


def has(client: redis.Redis, event_id: str) -> bool:
    """Whether the stream has the event of that id; looks through all of it.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    place, wanted = Place(), event_id.encode()
    while entries := read(client, place, place, _SCANNED).entries:
        place = entries[-1].place
        for entry in entries:
            event = events.parse(entry.text) if wanted in entry.text else None
            if event is not None and event.id == event_id:
                return True
    return False


def now_place(client: redis.Redis) -> Place:
    """The end of the stream.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found, now_ms = _last_and_time(client)
    return found[0].place if found else Place(now_ms)


def _last_and_time(client: redis.Redis) -> tuple[list[Entry], int]:
    """The last entry, if there is one, and the server's time in ms."""
    pipe = client.pipeline(transaction=False)
    pipe.xrevrange(keys.EVENTS, count=1)
    pipe.time()
    rows, (seconds, micros) = redis_values.answers(pipe)
    return _entries(rows), seconds * 1000 + micros // 1000


def _entries(rows: Any) -> list[Entry]:
    found = []
    for stream_id, fields in rows or []:
        text = (fields or {}).get(_FIELD, b"")
        found.append(Entry(place_of(stream_id, text), text))
    return found


def _is_erasure(entry: Entry) -> bool:
    event = events.parse(entry.text)
    return event is not None and event.type == events.FORGOTTEN
