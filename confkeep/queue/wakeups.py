"""Wake-ups: hints that an inbox has entries. They carry no data and may get lost.

A flag notes when a tenant's wake-up was sent, so that a burst sends one. It is cleared when a turn
ends, before the turn looks at the inbox for the last time: what is accepted later sends its own.
While a turn lasts the flag stays, since the turn finds what comes meanwhile. The flag says nothing
of the message itself; whether that is lost, the sweep finds out by looking into the queue.

    value of the flag   set by
    <ms>                an enqueue or a sweep
    <ms>t               a turn whose slice was over: the tenant's place is now at the tail

A wake-up carries the ms at which it was sent. One that is older than a turn's own is outdated: it
was sent while nobody answered, and would give the tenant a further slice before it is others' turn.
"""

from __future__ import annotations

import re
from typing import Any, Final

import redis
from celery import Celery
from kombu.entity import Queue

from confkeep.broker import keys, redis_values, scripts
from confkeep.settings import Settings

#: The task that a wake-up starts.
COMMIT_TASK: Final = "backups.commit_inbox"

#: Seconds for which a flag keeps producers from sending another one, if nothing clears it.
FLAG_LIFE_S: Final = 60.0

_TENANT = re.compile(rb'"argsrepr": "([0-9a-f-]{36})"')


def send(app: Celery, settings: Settings, tenant_id: str, sent_ms: int | None = None) -> None:
    """Put a wake-up at the tail of the tenant's queue. Tried once: the sweep sends what got lost.

    Args:
        sent_ms: the value of the flag; None: a wake-up that is never outdated.

    Raises:
        kombu.exceptions.OperationalError: the broker did not take it.
    """
    app.send_task(
        COMMIT_TASK,
        args=(tenant_id, sent_ms),
        # Without an exchange of its own: Celery would make one, and a key, for a name it does not know.
        queue=Queue(keys.queue_of(tenant_id, settings.shards)),  # type: ignore[no-untyped-call]
        ignore_result=True,
        retry=False,
        # What `queued` finds in the message's headers.
        argsrepr=tenant_id,
    )


def queued(client: redis.Redis, shard: int, most: int) -> set[str] | None:
    """The tenants whose wake-ups wait in a shard's queue; None when more than `most` wait there.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.lrange(keys.shard_queue(shard), 0, most)
    (found,) = redis_values.answers(pipe)
    messages: list[bytes] = found or []
    if len(messages) > most:
        return None
    return {found[1].decode() for message in messages if (found := _TENANT.search(message))}


def flag_by_turn(client: redis.Redis, tenant_id: str) -> int | None:
    """Note that a turn whose slice is over sends a wake-up now.

    Returns:
        The ms to send it with; None if an enqueue has sent one since the turn's last look.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    now: Any = client.time()
    now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
    life_ms = int(FLAG_LIFE_S * 1000)
    noted = client.set(keys.wake(tenant_id), f"{now_ms}t", px=life_ms, nx=True)
    return now_ms if noted else None


def sent_at(flag: bytes) -> int:
    """The ms in a flag; 0 where it holds anything else."""
    return redis_values.number_of(flag.removesuffix(b"t"))


def is_outdated(flag: bytes | None, sent_ms: int | None) -> bool:
    """Whether a turn has sent a wake-up of its own since this one was sent, as its flag says."""
    if sent_ms is None or flag is None or not flag.endswith(b"t"):
        return False
    return sent_at(flag) > sent_ms


def claim(client: redis.Redis, tenant_id: str, read: bytes | None, now_ms: int) -> bool:
    """Note that a wake-up is sent again, if the flag still is what was read before.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    arguments = [read or b"", now_ms, int(FLAG_LIFE_S * 1000)]
    return bool(scripts.load("claim_wake").run(client, [keys.wake(tenant_id)], arguments))


def clear(client: redis.Redis, tenant_id: str) -> None:
    """Forget the wake-up that was answered: what is accepted from now on sends its own.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    client.delete(keys.wake(tenant_id))
