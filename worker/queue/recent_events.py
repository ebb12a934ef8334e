"""The newest events of the stream, for pages that show them and follow nothing."""

from __future__ import annotations

import redis

from confkeep.broker import keys, redis_values
from confkeep.queue.events import Event, parse


def newest(client: redis.Redis, count: int) -> list[Event]:
    """The last events, newest first, at most `count`; an event that was told twice stands there once.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.xrevrange(keys.EVENTS, count=count)
    (rows,) = redis_values.answers(pipe)
    events = [parse(fields.get(b"event")) for _id, fields in rows or ()]
    return list({event.id: event for event in events if event is not None}.values())
