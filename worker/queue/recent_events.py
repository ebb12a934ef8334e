"""The newest events of the stream, for pages that show them and follow nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.queue.events import Event, parse

#: Events that one command reads.
_STEP: Final = 500


def newest(
    client: redis.Redis,
    count: int,
    *,
    wanted: Callable[[Event], bool] = lambda _event: True,
    holding: bytes = b"",
    among: int | None = None,
) -> list[Event]:
    """The last events, newest first, at most `count`; an event that was told twice stands there once.

    Args:
        wanted: whether an event counts.
        holding: a part of the text of each that counts; parsing all others would take most of the time.
        among: how many are looked at, where few of them count; None means `count`.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: dict[str, Event] = {}
    left, last = count if among is None else among, b"+"
    while left > 0 and len(found) < count:
        rows = redis_values.answer(client.xrevrange, keys.EVENTS, max=last, count=min(left, _STEP))
        for stream_id, fields in rows or ():
            last = b"(" + stream_id
            text = fields.get(b"event")
            event = parse(text) if holding in (text or b"") else None
            if event is not None and wanted(event) and len(found) < count:
                found[event.id] = event
        if len(rows or ()) < min(left, _STEP):
            break
        left -= _STEP
    return list(found.values())
