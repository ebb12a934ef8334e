"""Finds backups that plain Celery clients sent to a queue that no worker of ours reads.

A client that names no queue sends `backups.receive` to Celery's default queue, `celery`. Other programs may
use it too, so we take nothing out of it. The sender's result says what is wrong.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import BrokerUnavailable, InvalidBackup
from confkeep.observe.logs import get_logger
from confkeep.queue import receipts
from confkeep.queue.receipts import Outcome
from worker.broker import received

log = get_logger("strays")

#: Look at so many of the default queue's oldest messages, up to so many bytes. The queue may be another
#: program's, and long.
_MOST_MESSAGES: Final = 20
_MOST_BYTES: Final = 4_000_000

WRONG_QUEUE: Final = InvalidBackup(
    "queue",
    f"it was sent to {keys.DEFAULT_QUEUE!r}, where no worker of confkeep reads: send it with "
    f"queue={keys.RECEIVE_QUEUE!r}, or set task_routes",
)


def find(client: redis.Redis) -> list[str]:
    """The tasks' ids of the backups among the oldest messages of Celery's default queue.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: list[str] = []
    size = 0
    try:
        with broker_errors():
            length: Any = client.llen(keys.DEFAULT_QUEUE)
            for number in range(min(_MOST_MESSAGES, length)):
                message: Any = client.lindex(keys.DEFAULT_QUEUE, -1 - number)
                if message is None or size > _MOST_BYTES:
                    break
                size += len(message)
                task_id = _id_of_backup(message)
                if task_id is not None:
                    found.append(task_id)
    except BrokerUnavailable as error:
        # The server may refuse: we may not look there, or the key is no queue.
        if not isinstance(error.__cause__, redis.ResponseError):
            raise
    return found


def _id_of_backup(message: bytes) -> str | None:
    """The task's id if a message is a backup for us; another program's may have any form."""
    try:
        envelope = redis_values.json_of(message, most_bytes=_MOST_BYTES)
        if envelope["headers"]["task"] != received.RECEIVE_TASK:
            return None
        body = base64.b64decode(envelope["body"])
        _args, arguments, _embed = redis_values.json_of(body, most_bytes=_MOST_BYTES)
        is_backup = "tenant_id" in arguments and "device_id" in arguments
        return str(envelope["headers"]["id"]) if is_backup else None
    except (ValueError, TypeError, LookupError):
        return None


def tell(client: redis.Redis, ttl_s: int) -> int:
    """Tell the senders of such backups what is wrong, each once.

    Returns:
        How many were told now.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    told = 0
    for task_id in find(client):
        if receipts.end_unknown(client, Outcome(task_id, None, WRONG_QUEUE), ttl_s):
            told += 1
            log.warning(
                "a backup was sent to a queue that no worker of confkeep reads",
                action="receive.stray",
                task_id=task_id,
                queue=keys.DEFAULT_QUEUE,
                hint=f"Send it with queue={keys.RECEIVE_QUEUE!r}, or set task_routes in the client.",
            )
    return told
