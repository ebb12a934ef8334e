"""The messages to `backups.receive` that no worker has accepted yet; it reads them and takes none.

They are Celery's, and lie where kombu's Redis transport puts them:

    key               type   holds
    backups.receive   list   messages that no worker has taken, the newest first; more lists for
                             those with a priority (confkeep.broker.keys.RECEIVE_QUEUES)
    unacked           hash   delivery tag -> [message, exchange, routing key], of any queue: taken and
                             not acknowledged, such as those that are tried again later

A message is JSON; its `body`, base64 as a rule, is `[args, kwargs, embed]`, or with Celery's older
protocol an object with `task` and `kwargs`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values

RECEIVE_TASK: Final = "backups.receive"

#: Most bytes of a message, and of what is packed in it: of a backup as base64 in base64.
_MOST_BYTES: Final = 160 * 1024 * 1024
#: Messages that are read at once; each may hold a backup.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """One message. What is None cannot be read, or is no text."""

    tenant_id: str | None
    device_id: str | None
    #: The ids of handed-over bytes that it refers to.
    handed_over: frozenset[str] = frozenset()


def waiting(client: redis.Redis) -> Iterator[Waiting]:
    """All messages that wait. They are read in the order in which a message goes on, so that none
    is missed that a worker takes meanwhile, but in the instant between the queue and `unacked`.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    yield from _in_queue(client)
    cursor = 0
    while True:
        pipe = client.pipeline(transaction=False)
        pipe.hscan(keys.UNACKED, cursor, count=_AT_ONCE)
        (answer,) = redis_values.answers(pipe)
        cursor, messages = answer or (0, {})
        for text in messages.values():
            found = parse(text, wrapped=True)
            if found is not None:
                yield found
        if not cursor:
            return


def _in_queue(client: redis.Redis) -> Iterator[Waiting]:
    for queue in keys.RECEIVE_QUEUES:
        yield from _in_list(client, queue)


def _in_list(client: redis.Redis, queue: str) -> Iterator[Waiting]:
    start = 0
    while True:
        # From the newest on: what comes meanwhile only lets us see some twice.
        pipe = client.pipeline(transaction=False)
        pipe.lrange(queue, start, start + _AT_ONCE - 1)
        (found_there,) = redis_values.answers(pipe)
        texts: list[bytes] = found_there or []
        for text in texts:
            found = parse(text, wrapped=False)
            if found is not None:
                yield found
        if len(texts) < _AT_ONCE:
            return
        start += _AT_ONCE


def parse(text: bytes, *, wrapped: bool) -> Waiting | None:
    """What a message is for; None: it is another task's."""
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
        # Another program's, or damaged; a worker refuses it when it comes to it.
        return Waiting(None, None)


def _body(message: dict[str, Any], headers: dict[str, Any]) -> Any:
    body = message["body"]
    if message.get("properties", {}).get("body_encoding") == "base64":
        body = base64.b64decode(body)
    if headers.get("compression"):
        # No worker acts on one, and a few bytes may unpack to billions.
        raise ValueError("compressed")
    return redis_values.json_of(body, most_bytes=_MOST_BYTES)
