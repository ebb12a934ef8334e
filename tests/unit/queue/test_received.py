"""What a torn file left in `unacked` comes back, and what is well there is left alone."""

from __future__ import annotations

import time
from typing import Any

import redis

from confkeep.broker import keys
from worker.broker import received


def take(client: redis.Redis, tag: str, taken_s: float | None) -> None:
    """A message that a worker took; None: kombu's index does not name it."""
    client.hset(keys.UNACKED, tag, '[{"body": ""}, "", "backups.receive"]')
    if taken_s is not None:
        client.zadd(keys.UNACKED_INDEX, {tag: taken_s})


def test_a_message_that_the_index_does_not_name_comes_back(client: redis.Redis) -> None:
    for tag, taken_s in (("one", 1.0), ("two", 2.0), ("left", None)):
        take(client, tag, taken_s)
    before = time.time()
    assert received.bring_back(client) == 1
    found: Any = client.zrange(keys.UNACKED_INDEX, 0, -1, withscores=True)
    index = dict(found)
    # As one that is taken now: kombu puts it back when the visibility timeout is over.
    assert before <= index.pop(b"left") <= time.time()
    assert index == {b"one": 1.0, b"two": 2.0}
    assert client.hlen(keys.UNACKED) == 3
    assert received.bring_back(client) == 0


def test_nothing_is_done_where_all_is_well_or_not_kombus(client: redis.Redis) -> None:
    assert received.bring_back(client) == 0
    take(client, "one", 1.0)
    # kombu drops a tag whose message is gone.
    client.zadd(keys.UNACKED_INDEX, {"gone": 1.0})
    assert received.bring_back(client) == 0
    client.set(keys.UNACKED_INDEX, "somebody else's")
    assert received.bring_back(client) == 0
    assert client.get(keys.UNACKED_INDEX) == b"somebody else's"
