"""Send wake-ups: hints that an inbox has entries, which may get lost.

A flag holds the time of a tenant's last wake-up, so that a burst of backups of normal priority sends only one. A turn keeps the
flag, since it finds new entries by itself, and clears it before its last look at the inbox: entries accepted
later send their own wake-up. The message itself may still be lost; the sweep then misses it in the queue.

    value of the flag   set by
    <ms>                an enqueue or a sweep
    <ms>t               a turn whose slice ended: the tenant is now at the tail of the queue
    ...h<upto>          an enqueue of high priority adds it, and turns keep it until all is committed that
                        was accepted up to that ms

Each shard has a second queue, which each process asks first. An enqueue of high priority sends a wake-up there,
unless it sees one of the tenant in it: the flag does not tell. While it holds something, turns end after the batch
in hand. A tenant's own order stays: its turns go by way of that queue until the last backup of high priority
is committed.

A wake-up carries the ms at which it was sent. One that is older than the flag of a turn is outdated: it
would give the tenant an extra slice before the others' turn.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Final

import redis
from celery import Celery
from kombu.entity import Queue

from confkeep.broker import keys, redis_values, scripts
from confkeep.settings import Settings

#: The task that a wake-up starts.
COMMIT_TASK: Final = "backups.commit_inbox"

#: The task that looks for stale devices.
STALE_TASK: Final = "backups.note_stale"
#: Seconds after which a worker passes that over: the next one is on its way.
_STALE_LIFE_S: Final = 3_600

#: Until an uncleared flag expires and producers send another wake-up.
FLAG_LIFE_MS: Final = 60_000

#: When it was sent, whether by a turn, and up to when a backup of high priority was accepted.
_FLAG = re.compile(rb"([0-9]{1,16})t?(?:h([0-9]{1,16}))?")

_TENANT = re.compile(rb'"argsrepr": "([0-9a-f-]{36})"')


def message(tenant_id: str) -> tuple[str, str]:
    """A wake-up as `send` sends it, up to the ms at which it was sent, and the rest behind them.

    With it the script that accepts a backup wakes the tenant in the same step: Celery would take a round
    trip of its own, and longer to make the message than the server to do all. What Celery adds for
    monitors is left out.
    """
    beginning = f'{{"body": "[[\\"{tenant_id}\\", '
    rest = (
        '], {}, {}]", "content-encoding": "utf-8", "content-type": "application/json", '
        f'"headers": {{"lang": "py", "task": "{COMMIT_TASK}", "id": "{uuid.uuid4()}", '
        f'"ignore_result": true, "argsrepr": "{tenant_id}"}}, '
        '"properties": {"body_encoding": "utf-8"}}'
    )
    return beginning, rest


def send(
    app: Celery,
    settings: Settings,
    tenant_id: str,
    sent_ms: int | None = None,
    *,
    high: bool = False,
) -> None:
    """Put a wake-up at the tail of the tenant's queue. No retries: the sweep replaces lost ones.

    Args:
        sent_ms: the value of the flag; None makes a wake-up that is never outdated.
        high: into the queue that goes first.

    Raises:
        kombu.exceptions.OperationalError: the broker did not take it.
    """
    app.send_task(
        COMMIT_TASK,
        args=(tenant_id, sent_ms),
        # A queue without an exchange: for an unknown name Celery would create one, and a key.
        queue=Queue(keys.queue_of(tenant_id, settings.shards, high=high)),  # type: ignore[no-untyped-call]
        ignore_result=True,
        retry=False,
        # `queued` finds it in the message's headers.
        argsrepr=tenant_id,
    )


def ask_for_stale(app: Celery, settings: Settings) -> None:
    """Ask a worker of each shard to look for stale devices.

    Raises:
        kombu.exceptions.OperationalError: the broker did not take it.
    """
    for shard in range(settings.shards):
        app.send_task(
            STALE_TASK,
            args=(shard,),
            queue=Queue(keys.shard_queue(shard)),  # type: ignore[no-untyped-call]
            ignore_result=True,
            retry=False,
            expires=_STALE_LIFE_S,
        )


def queued(client: redis.Redis, shard: int, most: int) -> set[str] | None:
    """The tenants whose wake-ups wait in a shard's queues; None when more than `most` wait in one.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    for queue in (keys.shard_queue(shard), keys.high_queue(shard)):
        pipe.lrange(queue, 0, most)
    lists: list[list[bytes]] = [found or [] for found in redis_values.answers(pipe)]
    if any(len(messages) > most for messages in lists):
        return None
    messages = [message for messages in lists for message in messages]
    return {found[1].decode() for message in messages if (found := _TENANT.search(message))}


def wake_first(client: redis.Redis, settings: Settings, tenants: Iterable[str]) -> None:
    """Let what waits for some tenants go before other tenants' bulk.

    Raises:
        redis.RedisError: Redis did not answer.
    """
    for tenant_id in tenants:
        names = [keys.wake(tenant_id), keys.queue_of(tenant_id, settings.shards, high=True)]
        arguments = [FLAG_LIFE_MS, *message(tenant_id)]
        scripts.load("wake_first").run(client, names, arguments)


def high_waits(client: redis.Redis, shards: range) -> bool:
    """Whether something waits in the queues of these shards that go first.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.exists(*(keys.high_queue(shard) for shard in shards))
    return bool(redis_values.answers(pipe)[0])


def sent_at(flag: bytes) -> int:
    """The ms in a flag; 0 if the value is foreign."""
    found = _FLAG.fullmatch(flag)
    return int(found[1]) if found else 0


def high_upto(flag: bytes | None) -> int | None:
    """Up to when a backup of high priority was accepted; None if the flag tells of none."""
    found = _FLAG.fullmatch(flag or b"")
    return int(found[2]) if found and found[2] else None
