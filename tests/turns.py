"""The steps of a turn, one at a time, as tests need them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import redis

from confkeep.broker import keys
from confkeep.queue import acceptance, receipts
from confkeep.queue.acceptance import Accepted, Submission
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings, load_settings
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.queue import tidy, totals
from worker.queue.inbox import Batch, Inbox, Waiting
from worker.queue.totals import Mark

TENANT = str(uuid.UUID(int=1))
DEVICE = str(uuid.UUID(int=2))


def submission(
    number: int, data: bytes = b"/ip", tenant: str = TENANT, reply_to: str | None = None
) -> Submission:
    entry = Entry(
        backup_id=str(uuid.UUID(int=1000 + number)),
        device_id=DEVICE,
        message=f"message {number}",
        captured_at=None,
        export_bytes=len(data),
        export_sha256=hashlib.sha256(data).hexdigest(),
        binary_bytes=None,
        binary_sha256=None,
        staging="redis",
    )
    return Submission(tenant, entry, data, reply_to)


def accept(inbox: Inbox, ones: Sequence[Submission]) -> list[Accepted]:
    """Accept backups as a producer does."""
    return acceptance.accept(inbox.client, inbox.settings, ones)


def read_batch(inbox: Inbox) -> Batch:
    """Begin a batch as a turn does that is killed, and whose lock has expired."""
    lock = keys.lock(inbox.tenant_id)
    inbox.client.delete(lock)
    begun = inbox.begin("a turn that is killed")
    assert begun.outcome == "begun"
    inbox.client.delete(lock)
    return begun.batch


def try_lock(client: redis.Redis, tenant_id: str, ttl_s: float) -> TenantLock | None:
    """Take the tenant lock as a turn does; None if it is held."""
    token = locks.new_token()
    settings = load_settings().model_copy(update={"lock_ttl_s": ttl_s})
    inbox = Inbox(client, settings, tenant_id)
    return None if inbox.begin(token).outcome == "busy" else inbox.hold(token)


def lose_wake_ups(client: redis.Redis) -> None:
    """Empty the shards' queues, as a crash of the worker does that has taken a message."""
    for name in client.scan_iter(match=keys.SHARD_QUEUES):
        client.delete(name)


def publish(client: redis.Redis, outcomes: Sequence[Outcome], ttl_s: int) -> None:
    """Store and publish receipts, as a settling does of which a crash keeps no more."""
    for outcome in outcomes:
        name, record = (
            keys.result(outcome.backup_id),
            receipts.final_record(outcome.backup_id, outcome),
        )
        client.set(name, record, ex=ttl_s)
        client.publish(name, record)


def as_dead(settled: Sequence[Waiting]) -> dict[str, Mark]:
    """How those are settled that became dead letters: their bytes stay."""
    return {waiting.entry.backup_id: totals.DEAD for waiting in settled}


def batch(client: redis.Redis, max_backups: int = 100, max_bytes: int = 10**9) -> list[Waiting]:
    settings = load_settings(batch_max_backups=max_backups, batch_max_bytes=max_bytes)
    read = read_batch(Inbox(client, settings, TENANT))
    client.delete(keys.attempts(TENANT))
    assert not read.unreadable
    return read.entries


def tidy_all(
    client: redis.Redis, settings: Settings, *, abandoned_s: int = tidy.ABANDONED_S
) -> int:
    """Do all steps of the hourly tidying at once; how many keys and files they deleted."""
    return sum(tidy.steps(client, settings, abandoned_s=abandoned_s))
