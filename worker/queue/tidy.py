"""The hourly tidying, which one worker does: it deletes abandoned staged bytes and corrects counters.

Bytes are abandoned when no inbox entry and no dead letter refers to them and they are older than a
day: a client staged them for a `backups.receive` that it never sent, or a producer was killed
between writing a file and its entry. In Redis, an entry and its bytes come and go together, unless a
power cut kept only the beginning of a script. `worker.queue.recount` corrects the counters. Each
function raises redis.RedisError if Redis does not answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.queue import event_stream
from confkeep.settings import Settings
from worker.queue import dead_letters, oddities, recount
from worker.queue.inbox import Inbox

#: Seconds after which bytes that nobody refers to are abandoned.
ABANDONED_S: Final = 86_400
#: Seconds between two looks.
INTERVAL_S: Final = 3_600
#: Look at so many keys in a step.
_KEYS_AT_ONCE: Final = 1_000

_HANDOFF: Final = keys.handoff("", "").removesuffix(":")
_STAGED: Final = keys.staged("", "").removesuffix(":")


def steps(
    client: redis.Redis, settings: Settings, *, abandoned_s: int = ABANDONED_S
) -> Iterator[int]:
    """Delete abandoned bytes in Redis and on the volume, in steps of some milliseconds.

    Redis can only be asked for all its keys, and each kept receipt is one: with hundreds of
    millions the whole takes many minutes.

    Yields:
        The number of keys and files that a step deleted.

    Raises:
        redis.RedisError: Redis did not answer.
        OSError: the volume refused.
    """
    counted: set[str] = set()
    yield from _tidy_redis(client, settings, abandoned_s, counted)
    # What is lost counts as dead, before what is missing in the totals counts as committed.
    yield from recount.bury_lost(client, settings)
    recount.rest(client, counted)
    event_stream.trim(client, settings)
    yield 0
    if settings.staging_path.is_dir() and not client.exists(oddities.ARRIVING):
        yield from _tidy_volume(client, settings, abandoned_s)


def is_due(client: redis.Redis) -> bool:
    """Whether the tidying is due. The first worker that asks within the hour gets True and does it."""
    if client.set(keys.TIDY, "1", nx=True, ex=INTERVAL_S):
        return True
    # The server's clock may have been set back.
    client.expire(keys.TIDY, INTERVAL_S, lt=True)
    return False


def drop_foreign_queues(client: redis.Redis, settings: Settings, most_shards: int = 1024) -> int:
    """Delete the queues of shards that no longer exist, after their number was lowered.

    They hold wake-ups only: the sweep sends those whose inboxes still have entries.
    """
    gone = range(settings.shards, most_shards)
    names = [queue(shard) for shard in gone for queue in (keys.shard_queue, keys.high_queue)]
    return int(client.delete(*names)) if names else 0


def _tidy_redis(
    client: redis.Redis, settings: Settings, abandoned_s: int, counted: set[str]
) -> Iterator[int]:
    """Delete orphans, let what clients staged expire unless it is accepted, and count what waits for
    each tenant, who is then in `counted`."""
    script = scripts.load("drop_orphan")
    waiting: dict[str, set[str]] = {}
    unsigned = dead_letters.unsigned_ids(client)
    for page in _scan(client):
        deleted = 0
        for key in page:
            # Anybody may give a key a name that is no UTF-8, or whose tenant is none.
            name = redis_values.name_of(key)
            tenant = recount.tenant_of(name)
            if tenant is not None and tenant not in counted:
                counted.add(tenant)
                recount.tenant(client, tenant)
            if name.startswith(_HANDOFF):
                client.expire(key, abandoned_s, nx=True)
            if not name.startswith(_STAGED):
                continue
            tenant_id, _, backup_id = name.removeprefix(_STAGED).partition(":")
            if tenant_id not in waiting:
                waiting[tenant_id] = _waiting_ids(Inbox(client, settings, tenant_id))
            if backup_id not in waiting[tenant_id] and backup_id not in unsigned:
                own = redis_values.raw_name(backup_id)
                names: list[Any] = [key, keys.result("").encode() + own, keys.DEAD]
                deleted += script.run(client, names, [own, abandoned_s])
        yield deleted


def _tidy_volume(client: redis.Redis, settings: Settings, abandoned_s: int) -> Iterator[int]:
    oldest = time.time() - abandoned_s
    for folder in settings.staging_path.iterdir():
        if folder.name == "handoff":
            for tenant in folder.iterdir():
                yield _unlink_old(tenant, oldest, keep=set())
        elif folder.is_dir() and _is_tenant(folder.name):
            keep = _waiting_ids(Inbox(client, settings, folder.name))
            letters = dead_letters.list_dead_letters(client)
            keep |= {letter.backup_id for letter in letters} | dead_letters.unsigned_ids(client)
            yield _unlink_old(folder, oldest, keep)


def _unlink_old(folder: Path, oldest: float, keep: set[str]) -> int:
    deleted = 0
    with os.scandir(folder) as files:
        for file in files:
            backup_id = file.name[:36]
            if file.is_file() and file.stat().st_mtime < oldest and backup_id not in keep:
                Path(file.path).unlink(missing_ok=True)
                deleted += 1
    return deleted


def _waiting_ids(inbox: Inbox) -> set[str]:
    if not _is_tenant(inbox.tenant_id):
        return set()
    return {waiting.entry.backup_id for waiting in inbox.peek(1_000_000)}


def _is_tenant(name: str) -> bool:
    return redis_values.tenant_of(os.fsencode(name)) is not None


def _scan(client: redis.Redis) -> Iterator[list[bytes]]:
    """Our own keys in pages, most of them empty where most keys are receipts."""
    cursor = 0
    while True:
        found: Any = client.scan(cursor, match=f"{keys.PREFIX}*", count=_KEYS_AT_ONCE)
        cursor, names = found
        yield names
        if not cursor:
            return
