"""The part of the hourly tidying that corrects counters and finds backups whose entry is lost.

A power cut may keep only the first writes of a script. This module repairs what that leaves: an inbox that
no sweep knows of, a wrong counter, a record of a backup that waits nowhere. Each function raises
redis.RedisError or BrokerUnavailable if Redis does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings
from worker.queue import dead_letters
from worker.queue.inbox import Inbox

log = get_logger("recount")

#: Add up the sizes of so many entries of an inbox, which takes some milliseconds.
_MOST_ADDED: Final = 1_000
#: Look at so many records in a step.
_RECORDS_AT_ONCE: Final = 1_000

_INBOX: Final = keys.inbox("")
#: Prefixes of the keys that a tenant may have.
_OF_TENANTS: Final = (_INBOX, keys.backoff(""), keys.attempts(""))


def tenant_of(name: str) -> str | None:
    """The tenant that a key is about; None for other keys."""
    for prefix in _OF_TENANTS:
        if name.startswith(prefix):
            return redis_values.tenant_of(redis_values.raw_name(name.removeprefix(prefix)))
    return None


def tenant(client: redis.Redis, tenant_id: str) -> None:
    """Count what waits for a tenant, and let the sweep find it."""
    names = [
        keys.inbox(tenant_id),
        keys.WAITING,
        keys.LOAD,
        keys.backoff(tenant_id),
        keys.attempts(tenant_id),
        keys.replies(tenant_id),
    ]
    try:
        scripts.load("recount").run(client, names, [tenant_id, _MOST_ADDED])
    except redis.ResponseError as error:
        # Another program's key under one of these names.
        log.warning(
            "could not count what waits for a tenant",
            action="recount.failed",
            tenant_id=tenant_id,
            error=str(error),
        )


def rest(client: redis.Redis, counted: set[str]) -> None:
    """Count the tenants that only counters name, then the sums over all tenants.

    Args:
        counted: those that have been counted.
    """
    pipe = client.pipeline(transaction=False)
    pipe.zrange(keys.WAITING, 0, -1)
    pipe.hkeys(keys.LOAD)
    named = {
        redis_values.tenant_of(name) for found in redis_values.answers(pipe) for name in found or ()
    }
    for tenant_id in named - counted - {None}:
        tenant(client, str(tenant_id))
    names = [keys.WAITING, keys.LOAD, keys.TOTALS]
    found: Any = scripts.load("recount_all").run(client, names, [_INBOX])
    if any(found):
        load, total = found
        log.warning(
            "corrected counters that were off",
            action="recount.corrected",
            load=load,
            totals=total,
        )


def bury_lost(client: redis.Redis, settings: Settings) -> Iterator[int]:
    """Make dead letters of backups whose entry is lost, in steps of some milliseconds.

    Yields:
        How many a step found.
    """
    cursor = 0
    while True:
        page: Any = client.scan(cursor, match=keys.result("*"), count=_RECORDS_AT_ONCE)
        cursor, names = page
        yield _bury(client, settings, names) if names else 0
        if not cursor:
            return


def _bury(client: redis.Redis, settings: Settings, names: Sequence[bytes]) -> int:
    found: Any = scripts.load("lost").run(client, list(names), [_INBOX])  # type: ignore[arg-type]
    lost = 0
    for text in found[1::2]:
        record = json.loads(text)
        inbox = Inbox(client, settings, record["tenant"])
        if dead_letters.lose(inbox, record["task_id"], text):
            lost += 1
            log.warning(
                "a backup lost its inbox entry; hand the backup over again",
                action="backup.lost",
                tenant_id=inbox.tenant_id,
                backup_id=record["task_id"],
            )
    return lost
