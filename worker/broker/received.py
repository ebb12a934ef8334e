"""Celery's messages where kombu keeps them: those that no worker has accepted yet, and those left over.

They are Celery's, and lie where kombu's Redis transport puts them:

    key               type   holds
    backups.receive   list   messages that no worker has taken, the newest first; more lists for
                             those with a priority (confkeep.broker.keys.RECEIVE_QUEUES)
    unacked           hash   delivery tag -> [message, exchange, routing key], of any queue: taken and
                             not acknowledged, such as those that are tried again later
    unacked_index     zset   delivery tag -> seconds since it was taken

A message is JSON; its `body`, base64 as a rule, is `[args, kwargs, embed]`, or with Celery's older
protocol an object with `task` and `kwargs`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors

RECEIVE_TASK: Final = "backups.receive"

#: Most bytes of a message, and of what is packed in it: of a backup as base64 in base64.
_MOST_BYTES: Final = 160 * 1024 * 1024
#: Read so many messages at once; each may hold a backup.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """One message. Its ids are None if it cannot be read."""

    tenant_id: str | None
    device_id: str | None
    #: The ids of the staged bytes that it refers to.
    handed_over: frozenset[str] = frozenset()


def waiting(client: redis.Redis) -> Iterator[Waiting]:
    """All messages that wait. Reads the queue before `unacked`, so that a message that a worker
    takes meanwhile is found; only one in the instant between the two is missed.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    yield from _in_queue(client)
    cursor = 0
    while True:
        answer = redis_values.answer(client.hscan, keys.UNACKED, cursor, count=_AT_ONCE)
        cursor, messages = answer or (0, {})
        yield from _parsed(messages.values(), wrapped=True)
        if not cursor:
            return


def bring_back(client: redis.Redis) -> int:
    """Add messages in `unacked` that its index lacks to the index, so that kombu redelivers them.

    kombu acknowledges in one transaction that removes the message from the index first. If a crash
    tears the append-only file there, the server may restore only that first step: the message would
    stay in `unacked` for ever, and with it a backup that may have been erased since.

    Returns:
        How many there were.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hlen(keys.UNACKED)
    pipe.zcard(keys.UNACKED_INDEX)
    taken, indexed = redis_values.answers(pipe)
    if not taken or indexed is None or taken <= indexed:
        return 0
    # In one transaction: kombu adds and removes a message in both at once.
    pipe = client.pipeline(transaction=True)
    pipe.hkeys(keys.UNACKED)
    pipe.zrange(keys.UNACKED_INDEX, 0, -1)
    tags, known = redis_values.answers(pipe)
    lost = set(tags or ()) - set(known or ())
    if lost:
        with broker_errors():
            # A message acknowledged meanwhile leaves its tag here, which kombu drops when it times
            # out.
            client.zadd(keys.UNACKED_INDEX, dict.fromkeys(lost, time.time()), nx=True)
    return len(lost)


def _in_queue(client: redis.Redis) -> Iterator[Waiting]:
    for queue in keys.RECEIVE_QUEUES:
        # From the newest on: messages that arrive meanwhile only make us see some twice.
        for start in count(0, _AT_ONCE):
            texts = redis_values.answer(client.lrange, queue, start, start + _AT_ONCE - 1)
            yield from _parsed(texts or (), wrapped=False)
            if len(texts or ()) < _AT_ONCE:
                break


def _parsed(texts: Iterable[bytes], *, wrapped: bool) -> Iterator[Waiting]:
    return filter(None, (parse(text, wrapped=wrapped) for text in texts))


def parse(text: bytes, *, wrapped: bool) -> Waiting | None:
    """What a message is for; None if it is another task's."""
    try:
        message = redis_values.json_of(text, most_bytes=_MOST_BYTES)
        message = message[0] if wrapped else message
        headers = message.get("headers") or {}
        task = headers.get("task")
        if task is not None and task != RECEIVE_TASK:
            return None
        body = _body(message, headers)
        if isinstance(body, dict):
            if body.get("task") != RECEIVE_TASK:
                return None
            given = body["kwargs"]
        else:
            given = body[1]
        references = (given.get(name) for name in ("export_staged", "binary_staged"))
        ids = (reference.get("id") for reference in references if isinstance(reference, dict))
        tenant_id, device_id = str(given["tenant_id"]).lower(), str(given["device_id"]).lower()
        return Waiting(tenant_id, device_id, frozenset(str(id_).lower() for id_ in ids))
    except (ValueError, LookupError, TypeError, AttributeError):
        # Another program's, or damaged: a worker will refuse it.
        return Waiting(None, None)


def _body(message: dict[str, Any], headers: dict[str, Any]) -> Any:
    body = message["body"]
    if message.get("properties", {}).get("body_encoding") == "base64":
        body = base64.b64decode(body)
    if headers.get("compression"):
        # Workers refuse compressed messages: a few bytes may unpack to billions.
        raise ValueError("compressed")
    return redis_values.json_of(body, most_bytes=_MOST_BYTES)
