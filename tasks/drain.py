"""One turn for one tenant: inbox to git, in batches, for a time slice; it retries and wakes nobody."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import BrokerUnavailable, ConfkeepError, QueueError, StoreError
from confkeep.observe.logs import get_logger
from confkeep.queue import arrivals, receipts, wakeups
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from tasks.batch import BatchCommitter
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.git_store import author_of
from worker.observe import measure, metrics
from worker.process import shutdown, waits
from worker.queue import backoff, dead_letters, inbox
from worker.queue.backoff import Backoff
from worker.queue.inbox import Unreadable
from worker.store.commit import open_for_writing
from worker.store.repository import repository_path

log = get_logger("drain")

#: Arrivals that a turn admits at its begin: far more than it can commit.
_MOST_ADMITTED = 20_000
#: Most waiting backups whose results tell of a fault, and at a time.
_MOST_SHOWN = 10_000
_SHOWN_AT_ONCE = 500

#: Tenants whose last turn in this process ended with a fault of the server, which kept its attempt.
_unforgotten: set[str] = set()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did."""

    #: False: another process holds the tenant lock and nothing was done.
    had_lock: bool
    committed: int = 0
    dead: int = 0
    #: Entries that wait still.
    left: int = 0


def drain_inbox(client: redis.Redis, settings: Settings, tenant_id: str) -> Turn:
    """Commit what waits in a tenant's inbox until it is empty or the time slice is over.

    Safe beside another turn of the same tenant: the lock lets one of them work, and where it
    expires the branch's compare-and-swap does.

    Raises:
        StoreError, QueueError: a fault of the system; what is not settled is in the inbox still.
    """
    lock = locks.try_lock(client, tenant_id, settings.lock_ttl_s)
    if lock is None:
        return Turn(had_lock=False)
    try:
        committed, dead = _drain(client, settings, tenant_id, lock)
    except (StoreError, QueueError):
        # No entry is to blame, however often it comes.
        _forget_attempts(client, tenant_id)
        raise
    finally:
        lock.release()
    # In this order: who was refused the lock meanwhile, and who found the flag set, relies on this
    # last look.
    with broker_errors():
        wakeups.clear(client, tenant_id)
    return Turn(True, committed, dead, inbox.depth(client, tenant_id))


def _forget_attempts(client: redis.Redis, tenant_id: str) -> None:
    """Count anew; where the server refuses that too, before this process's next turn for the tenant."""
    try:
        inbox.forget_attempts(client, tenant_id)
    except BrokerUnavailable:
        _unforgotten.add(tenant_id)


def _drain(
    client: redis.Redis, settings: Settings, tenant_id: str, lock: TenantLock
) -> tuple[int, int]:
    committed = dead = 0
    end = time.monotonic() + settings.slice_s
    if tenant_id in _unforgotten:
        inbox.forget_attempts(client, tenant_id)
        _unforgotten.discard(tenant_id)
    arrivals.admit(client, settings, tenant_id, by_turn=True, most=_MOST_ADMITTED)
    with ExitStack() as opened:
        committer: BatchCommitter | None = None
        while time.monotonic() < end and not lock.lost and not shutdown.requested():
            batch = inbox.read_batch(
                client,
                tenant_id,
                max_backups=settings.batch_max_backups,
                max_bytes=settings.batch_max_bytes,
                settings=settings,
            )
            if not batch:
                break
            for found in batch.unreadable:
                _tell_unsigned(client, settings, tenant_id, found)
                dead_letters.bury_unreadable(client, tenant_id, found)
                log.warning(
                    "no entry of ours in an inbox",
                    action="inbox.refused",
                    tenant_id=tenant_id,
                    reason=str(found.error),
                )
                dead += 1
                measure.count(metrics.WORKER_DEAD)
            if not batch.entries:
                continue
            if committer is None:
                path = repository_path(settings.git_store_path, tenant_id)
                writer = opened.enter_context(open_for_writing(path, author_of(settings)))
                committer = BatchCommitter(client, settings, tenant_id, writer)
            done = committer.run(batch)
            committed += done.committed
            dead += done.dead
            if not done.left:
                # What comes from now on is seen by the turn's last look: to read an empty inbox
                # costs the server two syncs of its file.
                break
    return committed, dead


def _tell_unsigned(
    client: redis.Redis, settings: Settings, tenant_id: str, found: Unreadable
) -> None:
    """Let the result of a backup whose producer did not sign it say so.

    Only while it waits under that very digest: a planted entry may name the id of a backup that
    was committed.
    """
    entry = found.entry
    if entry is None:
        return
    digest = entry.digest(tenant_id)
    if receipts.waits_as(client, entry.backup_id, digest):
        outcome = Outcome(entry.backup_id, digest, found.error)
        receipts.publish(client, tenant_id, [outcome], settings.receipt_ttl_s)


@dataclass(frozen=True, slots=True)
class Due:
    """A wake-up that is to be answered now."""

    #: What the tenant waited for until now; None: its last turn did not fail.
    wait: Backoff | None


def look(client: redis.Redis, tenant_id: str, sent_ms: int | None, *, retry: bool) -> Due | None:
    """Whether a wake-up is to be answered now; None when it is not.

    Not when a turn has sent one of its own since, nor while the tenant's next try is still to come:
    new enqueues must not bypass it.

    Args:
        sent_ms: when the wake-up was sent; None: it is never outdated.
        retry: it is that next try.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.get(keys.wake(tenant_id))
    pipe.hgetall(keys.backoff(tenant_id))
    flag, fields = redis_values.answers(pipe)
    if wakeups.is_outdated(flag, sent_ms):
        return None
    wait = backoff.parse(fields)
    if retry or wait is None or wait.is_over(inbox.server_time_ms(client)):
        return Due(wait)
    return None


def note_fault(
    client: redis.Redis, settings: Settings, tenant_id: str, error: ConfkeepError
) -> float:
    """Let a tenant wait whose turn failed, and tell why.

    Returns:
        Seconds until the next try.

    Raises:
        BrokerUnavailable: Redis did not answer; nothing may be noted.
    """
    noted = backoff.failed(client, tenant_id, error)
    waits.tell_failed(settings, tenant_id, noted)
    show_retrying(client, settings, tenant_id, error)
    return noted.delay_s


def tell_over(client: redis.Redis, tenant_id: str, wait: Backoff, turn: Turn) -> None:
    """Tell that a tenant goes on after a wait.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    waited = turn.committed + turn.dead + turn.left
    waits.tell_over(tenant_id, wait, inbox.server_time_ms(client), waited)


def show_retrying(
    client: redis.Redis, settings: Settings, tenant_id: str, error: ConfkeepError
) -> None:
    """Let the results of a tenant's waiting backups, the oldest ones of a great many, say why they
    wait.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    batch = inbox.peek(client, tenant_id, _MOST_SHOWN)
    for start in range(0, len(batch), _SHOWN_AT_ONCE):
        ids = [waiting.entry.backup_id for waiting in batch[start : start + _SHOWN_AT_ONCE]]
        receipts.show_retrying(client, ids, error, settings.receipt_ttl_s)
