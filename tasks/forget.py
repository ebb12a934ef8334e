"""Erasing a device or a tenant everywhere: the inbox is looked at, git and Redis are cleared; it asks nobody."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import redis

from worker import dead_letters, inbox, keys, locks, totals
from worker.connections import broker_errors, get_client
from worker.dead_letters import DeadLetter
from worker.errors import BackupsWaiting, NotInStore, StagingUnavailable
from worker.ids import checked_uuid
from worker.logs import get_logger
from worker.settings import Settings
from worker.store import audit, forget
from worker.store.repository import repository_path

log = get_logger("forget")

#: Seconds to wait for a turn of commits to end: longer than its slice.
_LOCK_WAIT_S: Final = 45.0
_POLL_S: Final = 0.2
#: Most entries that an inbox may hold.
_MOST: Final = 10_000_000
_RESULTS: Final = keys.result("*")
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed."""

    #: Of a device, its commits; None: a tenant's repository went whole.
    commits: int | None
    dead_letters: int
    #: Result records, rows of the last commits and staged bytes in Redis, and files on the volume.
    records: int


def forget_device(
    settings: Settings, tenant_id: str, device_id: str, *, wait_s: float = 0.0
) -> Erased:
    """Erase a device: from git with a proof, its dead letters, its bytes and results in Redis.

    Args:
        wait_s: how long to wait for its backups in the inbox to be committed.

    Raises:
        BackupsWaiting: some of them wait still; nothing was erased.
        TenantLocked, BrokerUnavailable, StagingUnavailable: call again.
        NotInStore: the tenant has no repository.
        StoreError: as `worker.store.forget.forget_device`.
    """
    tenant, device = checked_uuid("tenant_id", tenant_id), checked_uuid("device_id", device_id)
    client = get_client(settings)
    path = repository_path(settings.git_store_path, tenant)

    def is_waiting() -> bool:
        entries = inbox.peek(client, tenant, _MOST)
        return any(waiting.entry.device_id == device for waiting in entries)

    _wait(is_waiting, wait_s)
    with locks.tenant_lock(tenant, wait_s=_LOCK_WAIT_S):
        if is_waiting():
            raise BackupsWaiting(f"the inbox of tenant {tenant} holds backups of device {device}")
        _note(settings, "device.forget", tenant, device, state="begun")
        gone = forget.forget_device(path, device, now_s=int(time.time()))
        letters = [
            letter
            for letter in dead_letters.list_dead_letters(client)
            if letter.tenant_id == tenant
            and (
                letter.device_id == device or (letter.device_id is None and device in letter.entry)
            )
        ]
        ids = {*gone.backup_ids, *(letter.backup_id for letter in letters)}
        # Nobody knows whether these are the device's: what waits under such an id stays.
        unsigned = {letter.unsigned_id for letter in letters if letter.unsigned_id is not None}
        ids |= unsigned - {w.entry.backup_id for w in inbox.peek(client, tenant, _MOST)}
        records = _clear(client, settings, tenant, letters, ids, device)
        erased = Erased(gone.commits, len(letters), records)
        _note(settings, "device.forget", tenant, device, state="done", commits=erased.commits)
    return erased


def forget_tenant(settings: Settings, tenant_id: str, *, wait_s: float = 0.0) -> Erased:
    """Erase a tenant: its repository, and all that Redis and the staging hold of it.

    Args:
        wait_s: how long to wait for its inbox to be committed.

    Raises:
        BackupsWaiting: its inbox is not empty; nothing was erased.
        TenantLocked, BrokerUnavailable, StagingUnavailable, StoreError: call again.
        NotInStore: nothing of the tenant is there.
    """
    tenant = checked_uuid("tenant_id", tenant_id)
    client = get_client(settings)
    path = repository_path(settings.git_store_path, tenant)

    def is_waiting() -> bool:
        return inbox.depth(client, tenant) > 0

    _wait(is_waiting, wait_s)
    with locks.tenant_lock(tenant, wait_s=_LOCK_WAIT_S):
        if is_waiting():
            raise BackupsWaiting(f"the inbox of tenant {tenant} is not empty")
        if path.parent.is_dir():
            _note(settings, "tenant.forget", tenant, None, state="begun")
        there = path.parent.is_dir() and forget.forget_tenant(path)
        every = dead_letters.list_dead_letters(client)
        letters = [letter for letter in every if letter.tenant_id == tenant]
        ids = {letter.backup_id for letter in letters}
        records = _clear(client, settings, tenant, letters, ids, None)
        records += _clear_tenant(client, settings, tenant)
        if path.parent.is_dir():
            _note(settings, "tenant.forget", tenant, None, state="done")
    if not there and not letters and not records:
        raise NotInStore(f"nothing of tenant {tenant} is there")
    return Erased(None, len(letters), records)


def _wait(is_waiting: Callable[[], bool], wait_s: float) -> None:
    """Until nothing waits, or the time is over; the caller looks again under the lock."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and is_waiting():
        time.sleep(_POLL_S)


def _note(
    settings: Settings, action: str, tenant_id: str, device_id: str | None, **more: object
) -> None:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    fields = {"tenant_id": tenant_id, "device_id": device_id, **more}
    audit.append(settings.git_store_path, at=at, action=action, **fields)
    # The audit's own name of it, `device.forget` or `tenant.forget`, is the field `what`.
    log.warning("erasure", action="erasure", what=action, **fields)


def _clear(
    client: redis.Redis,
    settings: Settings,
    tenant_id: str,
    letters: Iterable[DeadLetter],
    backup_ids: set[str],
    device_id: str | None,
) -> int:
    """Delete dead letters, and what is kept under the ids of backups or of callers that asked."""
    for letter in letters:
        dead_letters.discard(client, settings, letter.backup_id)
    names = {keys.result(backup_id) for backup_id in backup_ids}
    names |= {keys.staged(tenant_id, backup_id) for backup_id in backup_ids}
    names |= set(_results_of(client, tenant_id, device_id))
    deleted = _delete(client, names) + totals.forget(client, tenant_id, device_id)
    if backup_ids:
        with broker_errors():
            client.hdel(keys.replies(tenant_id), *backup_ids)
    folder = settings.staging_path / tenant_id
    if backup_ids and folder.is_dir():
        for file in folder.iterdir():
            if file.name[:36] in backup_ids:
                deleted += _unlink(file)
    return deleted


def _clear_tenant(client: redis.Redis, settings: Settings, tenant_id: str) -> int:
    """Delete every other key and file of a tenant, but for the lock that the caller holds."""
    names = {keys.backoff(tenant_id), keys.attempts(tenant_id), keys.replies(tenant_id)}
    names.add(keys.wake(tenant_id))
    for pattern in (keys.staged(tenant_id, "*"), keys.handoff(tenant_id, "*")):
        names |= set(_scan(client, pattern))
    deleted = _delete(client, names)
    with broker_errors():
        client.zrem(keys.WAITING, tenant_id)
        client.hdel(keys.LOAD, tenant_id)
    folders = (settings.staging_path / tenant_id, settings.staging_path / "handoff" / tenant_id)
    for folder in folders:
        if folder.is_dir():
            deleted += sum(1 for _file in folder.iterdir())
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise StagingUnavailable(f"staging: {error.strerror}") from error
    return deleted


def _results_of(client: redis.Redis, tenant_id: str, device_id: str | None) -> Iterator[str]:
    """The result records that hold a receipt of the device, or of any of the tenant."""
    names = _scan(client, _RESULTS)
    while some := list(islice(names, _AT_ONCE)):
        with broker_errors():
            found: Any = client.mget(some)
        for name, text in zip(some, found, strict=True):
            if text is not None and _is_of(text, tenant_id, device_id):
                yield name


def _is_of(text: bytes, tenant_id: str, device_id: str | None) -> bool:
    try:
        result = json.loads(text).get("result")
    except (ValueError, AttributeError):
        return False
    return (
        isinstance(result, dict)
        and result.get("tenant_id") == tenant_id
        and (device_id is None or result.get("device_id") == device_id)
    )


def _scan(client: redis.Redis, pattern: str) -> Iterator[str]:
    with broker_errors():
        for name in client.scan_iter(match=pattern, count=1_000):
            yield name.decode()


def _delete(client: redis.Redis, names: Iterable[str]) -> int:
    left, deleted = iter(names), 0
    while some := list(islice(left, _AT_ONCE)):
        with broker_errors():
            gone: Any = client.delete(*some)
        deleted += gone
    return deleted


def _unlink(file: Path) -> int:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StagingUnavailable(f"staging: {error.strerror}") from error
    return 1
