"""Wake-ups: hints that an inbox has entries; they carry no data and may get lost."""

from __future__ import annotations

import json
from typing import Any, Final

import redis
from celery import Celery

from worker import keys
from worker.settings import Settings

#: The task that a wake-up starts.
COMMIT_TASK: Final = "backups.commit_inbox"


def send(app: Celery, settings: Settings, tenant_id: str) -> None:
    """Put a wake-up at the tail of the tenant's queue. Tried once: the sweep sends what got lost.

    Raises:
        kombu.exceptions.OperationalError: the broker did not take it.
    """
    app.send_task(
        COMMIT_TASK,
        args=(tenant_id,),
        queue=keys.queue_of(tenant_id, settings.shards),
        ignore_result=True,
        retry=False,
    )


def flag(client: redis.Redis, settings: Settings, tenant_id: str, *, only_new: bool) -> bool:
    """Note that a wake-up is on its way; False: one was noted already and `only_new` is set.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    ttl_ms = int(settings.wake_ttl_s * 1000)
    return bool(client.set(keys.wake(tenant_id), "1", px=ttl_ms, nx=only_new))


def send_again(app: Celery, client: redis.Redis, settings: Settings, tenant_id: str) -> None:
    """Put the wake-up of a tenant whose slice is over behind all others, as its only one.

    Several may be in the queue, one for each life of the flag while nobody answered: with each of
    them the tenant would take another slice before it is another's turn.

    Raises:
        redis.RedisError: Redis did not answer; the sweep sends one.
        kombu.exceptions.OperationalError: the broker did not take it.
    """
    queue = keys.queue_of(tenant_id, settings.shards)
    messages: Any = client.lrange(queue, 0, -1)
    duplicates = [message for message in messages if _wakes(message, tenant_id)]
    pipe = client.pipeline(transaction=False)
    for message in duplicates:
        pipe.lrem(queue, 1, message)
    pipe.set(keys.wake(tenant_id), "1", px=int(settings.wake_ttl_s * 1000))
    pipe.execute()
    send(app, settings, tenant_id)


def _wakes(message: bytes, tenant_id: str) -> bool:
    """Whether a message in a queue is a wake-up of the tenant."""
    if tenant_id.encode() not in message:
        return False
    headers = json.loads(message)["headers"]
    return bool(headers["task"] == COMMIT_TASK and headers["argsrepr"] == repr((tenant_id,)))


def clear(client: redis.Redis, tenant_id: str) -> None:
    """Forget the wake-up that is being answered, before the inbox is first read: what is accepted
    from now on sends its own.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    client.delete(keys.wake(tenant_id))
