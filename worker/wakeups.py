"""Wake-ups: hints that an inbox has entries; they carry no data and may get lost."""

from __future__ import annotations

import re
from typing import Any, Final

import redis
from celery import Celery

from worker import keys
from worker.settings import Settings

#: The task that a wake-up starts.
COMMIT_TASK: Final = "backups.commit_inbox"

#: Most messages of a queue that are looked through, those that come next.
_MOST_READ: Final = 2_000

_TENANT = re.compile(rb'"argsrepr": "([0-9a-f-]{36})"')


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
        # What `queued` finds in the message's headers.
        argsrepr=tenant_id,
    )


def queued(client: redis.Redis, shard: int, most: int) -> set[str] | None:
    """The tenants whose wake-ups wait in a shard's queue; None when more than `most` wait there.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    messages: Any = client.lrange(keys.shard_queue(shard), 0, most)
    if len(messages) > most:
        return None
    return {found[1].decode() for message in messages if (found := _TENANT.search(message))}


def flag(
    client: redis.Redis,
    settings: Settings,
    tenant_id: str,
    *,
    only_new: bool,
    ttl_s: float | None = None,
) -> bool:
    """Note that a wake-up is on its way; False: one was noted already and `only_new` is set.

    Args:
        ttl_s: seconds until it counts as lost; None: the setting's.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    ttl_ms = int((settings.wake_ttl_s if ttl_s is None else ttl_s) * 1000)
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
    messages: Any = client.lrange(queue, -_MOST_READ, -1)
    own = tenant_id.encode()
    duplicates = [
        message for message in messages if (found := _TENANT.search(message)) and found[1] == own
    ]
    pipe = client.pipeline(transaction=False)
    for message in duplicates:
        pipe.lrem(queue, 1, message)
    pipe.set(keys.wake(tenant_id), "1", px=int(settings.wake_ttl_s * 1000))
    pipe.execute()
    send(app, settings, tenant_id)


def clear(client: redis.Redis, tenant_id: str) -> None:
    """Forget the wake-up that is being answered, before the inbox is first read: what is accepted
    from now on sends its own.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    client.delete(keys.wake(tenant_id))
