"""Deletes what Redis and the staging hold of a device or a tenant."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.queue import event_stream
from confkeep.queue.staging import volume_errors
from worker.broker import received
from worker.queue import dead_letters, oddities, refused, totals
from worker.queue.dead_letters import DeadLetter
from worker.queue.inbox import Inbox

_RESULTS: Final = keys.result("*")
_AT_ONCE: Final = 500


def unnamed_handoffs(inbox: Inbox) -> int:
    """Count the staged hand-overs of a tenant that no waiting message refers to."""
    prefix = keys.handoff(inbox.tenant_id, "")
    names = _scan(inbox.client, prefix + "*")
    found = {redis_values.name_of(name).removeprefix(prefix) for name in names}
    folder = inbox.settings.staging_path / "handoff" / inbox.tenant_id
    if folder.is_dir():
        found.update(file.name for file in folder.iterdir())
    if not found:
        return 0
    named = (message.handed_over for message in received.waiting(inbox.client))
    return len(found.difference(*named))


def has_arrivals(inbox: Inbox) -> bool:
    """Whether producers of an earlier release left backups of a tenant that no worker takes."""
    with broker_errors():
        return bool(inbox.client.hexists(oddities.ARRIVING, inbox.tenant_id))


def clear(
    inbox: Inbox,
    letters: Iterable[DeadLetter],
    backup_ids: set[str],
    device_id: str | None,
) -> int:
    """Delete dead letters, and all records and bytes under some backup_ids."""
    client, settings, tenant_id = inbox.client, inbox.settings, inbox.tenant_id
    # A key of another type would end the erasure half-way.
    oddities.set_aside(client, {**keys.TYPES, **keys.types_of(tenant_id)})
    for letter in letters:
        dead_letters.discard(client, settings, letter.backup_id)
    names = {redis_values.raw_name(keys.result(backup_id)) for backup_id in backup_ids}
    names |= {redis_values.raw_name(keys.staged(tenant_id, one)) for one in backup_ids}
    ids = [id_.encode() for id_ in (tenant_id, device_id) if id_ is not None]
    names |= set(_results_of(client, ids))
    names |= set(_scan(client, keys.odd(f"*{tenant_id}*")))
    deleted = _delete(client, names) + totals.forget(client, ids)
    deleted += refused.forget(inbox, device_id)
    deleted += event_stream.forget(client, ids)
    if backup_ids:
        with broker_errors():
            client.hdel(keys.replies(tenant_id), *map(redis_values.raw_name, backup_ids))
    if device_id is not None:
        with broker_errors():
            client.hdel(keys.stale(tenant_id), device_id)
    folder = settings.staging_path / tenant_id
    if backup_ids and folder.is_dir():
        for file in folder.iterdir():
            if file.name[:36] in backup_ids:
                with volume_errors():
                    file.unlink(missing_ok=True)
                deleted += 1
    return deleted


def clear_tenant(inbox: Inbox) -> int:
    """Delete every other key and file of a tenant, except the lock, which the caller holds."""
    client, settings, tenant_id = inbox.client, inbox.settings, inbox.tenant_id
    own = (keys.backoff, keys.attempts, keys.replies, keys.wake, keys.repack, keys.stale)
    names = {name(tenant_id).encode() for name in own}
    staged, handoffs = keys.staged(tenant_id, "*"), keys.handoff(tenant_id, "*")
    for pattern in (staged, handoffs, oddities.arrivals(tenant_id)):
        names |= set(_scan(client, pattern))
    deleted = _delete(client, names)
    with broker_errors():
        deleted += int(scripts.load("drop_empty").run(client, [keys.inbox(tenant_id)], []))
        client.zrem(keys.WAITING, tenant_id)
        client.hdel(keys.LOAD, tenant_id)
        client.hdel(oddities.ARRIVING, tenant_id)
    folders = (settings.staging_path / tenant_id, settings.staging_path / "handoff" / tenant_id)
    for folder in folders:
        if folder.is_dir():
            deleted += sum(1 for _file in folder.iterdir())
            with volume_errors():
                shutil.rmtree(folder)
    return deleted


def _results_of(client: redis.Redis, ids: Collection[bytes]) -> Iterator[bytes]:
    """The result records that name all these ids.

    An answer of a reading task is a file or a difference and does not say whose it is: none is
    looked for, since others keep results under such names too. Each goes within ten minutes.
    """
    names = _scan(client, _RESULTS)
    while some := list(islice(names, _AT_ONCE)):
        with broker_errors():
            found: Any = client.mget(some)
        for name, text in zip(some, found, strict=True):
            if text is not None and all(id_ in text for id_ in ids):
                yield name


def _scan(client: redis.Redis, pattern: str) -> Iterator[bytes]:
    """Names of keys, as bytes: not every name is UTF-8."""
    with broker_errors():
        yield from client.scan_iter(match=pattern, count=1_000)


def _delete(client: redis.Redis, names: Iterable[bytes]) -> int:
    left, deleted = iter(names), 0
    while some := list(islice(left, _AT_ONCE)):
        with broker_errors():
            gone: Any = client.delete(*some)
        deleted += gone
    return deleted
