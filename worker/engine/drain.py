"""One turn for one tenant: from its inbox to git, in batches, for a slice of time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import BrokerUnavailable, ConfkeepError, QueueError, StoreError
from confkeep.observe.logs import get_logger
from confkeep.queue import receipts, wakeups
from confkeep.queue.receipts import Outcome
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.engine.author import author_of
from worker.engine.batch import BatchCommitter
from worker.observe import measure, metrics
from worker.process import shutdown, waits
from worker.queue import backoff, dead_letters, inboxes
from worker.queue.backoff import Backoff
from worker.queue.inbox import Inbox, Unreadable
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import open_for_writing

log = get_logger("drain")

#: The results of so many waiting backups tell of a fault; so many are written at a time.
_MOST_SHOWN = 10_000
_SHOWN_AT_ONCE = 500

#: Tenants whose last turn in this process ended with a fault of the server, so that its attempt still
#: counts.
_unforgotten: set[str] = set()


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did; nothing if another process holds the tenant lock."""

    committed: int = 0
    dead: int = 0
    #: Entries that still wait.
    left: int = 0


def drain_inbox(inbox: Inbox) -> Turn:
    """Commit what waits in a tenant's inbox until it is empty or the time slice is over.

    Safe beside another turn of the same tenant: the lock lets one of them work, and where it
    expires the branch's compare-and-swap does.

    Raises:
        StoreError, QueueError: a fault of the system; what is not settled is in the inbox still.
    """
    lock = locks.try_lock(inbox.client, inbox.tenant_id, inbox.settings.lock_ttl_s)
    if lock is None:
        return Turn()
    try:
        committed, dead = _drain(inbox, lock)
    except (StoreError, QueueError):
        # No entry is to blame, however often it comes.
        _forget_attempts(inbox)
        raise
    finally:
        lock.release()
    # In this order: who was refused the lock meanwhile, and who found the flag set, relies on this
    # last look.
    with broker_errors():
        wakeups.clear(inbox.client, inbox.tenant_id)
    return Turn(committed, dead, inbox.depth())


def _forget_attempts(inbox: Inbox) -> None:
    """Count attempts from zero; if the server refuses that too, before this process's next turn."""
    try:
        inbox.forget_attempts()
    except BrokerUnavailable:
        _unforgotten.add(inbox.tenant_id)


def _drain(inbox: Inbox, lock: TenantLock) -> tuple[int, int]:
    settings, tenant_id = inbox.settings, inbox.tenant_id
    committed = dead = 0
    end = time.monotonic() + settings.slice_s
    if tenant_id in _unforgotten:
        inbox.forget_attempts()
        _unforgotten.discard(tenant_id)
    with ExitStack() as opened:
        committer: BatchCommitter | None = None
        while time.monotonic() < end and not lock.lost and not shutdown.requested():
            batch = inbox.read_batch()
            if not batch:
                break
            for found in batch.unreadable:
                _tell_unsigned(inbox, found)
                dead_letters.bury_unreadable(inbox, found)
                log.warning(
                    "an inbox entry was refused; it became a dead letter",
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
                committer = BatchCommitter(inbox, writer)
            done = committer.run(batch)
            committed += done.committed
            dead += done.dead
            if not done.left:
                # What comes from now on is seen by the turn's last look: to read an empty inbox
                # costs the server two syncs of its file.
                break
    return committed, dead


def _tell_unsigned(inbox: Inbox, found: Unreadable) -> None:
    """Publish for a backup that its producer did not sign.

    Only while a backup waits under that digest: a planted entry may name one that was committed.
    """
    entry = found.entry
    if entry is None:
        return
    digest = entry.digest(inbox.tenant_id)
    if receipts.waits_as(inbox.client, entry.backup_id, digest):
        outcome = Outcome(entry.backup_id, digest, found.error)
        receipts.publish(inbox.client, inbox.tenant_id, [outcome], inbox.settings.receipt_ttl_s)


@dataclass(frozen=True, slots=True)
class Due:
    """A wake-up that needs an answer now."""

    #: The tenant's wait; None if its last turn did not fail.
    wait: Backoff | None


def look(inbox: Inbox, sent_ms: int | None, *, retry: bool) -> Due | None:
    """Decide whether to answer a wake-up now; None if not.

    It is not answered if a turn has sent one of its own since, nor before the tenant's next try is
    due: new enqueues must not bypass the wait.

    Args:
        sent_ms: when the wake-up was sent; None if it is never outdated.
        retry: it is that next try.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = inbox.client.pipeline(transaction=False)
    pipe.get(keys.wake(inbox.tenant_id))
    pipe.hgetall(keys.backoff(inbox.tenant_id))
    flag, fields = redis_values.answers(pipe)
    if wakeups.is_outdated(flag, sent_ms):
        return None
    wait = backoff.parse(fields)
    if retry or wait is None or wait.is_over(inboxes.server_time_ms(inbox.client)):
        return Due(wait)
    return None


def note_fault(inbox: Inbox, error: ConfkeepError) -> float:
    """Let a tenant whose turn failed wait, and tell why.

    Returns:
        Seconds until the next try.

    Raises:
        BrokerUnavailable: Redis did not answer; nothing may be noted.
    """
    noted = backoff.failed(inbox, error)
    waits.tell_failed(inbox.settings, inbox.tenant_id, noted)
    show_retrying(inbox, error)
    return noted.delay_s


def tell_over(inbox: Inbox, wait: Backoff, turn: Turn) -> None:
    """Tell that a tenant goes on after a wait.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    waited = turn.committed + turn.dead + turn.left
    waits.tell_over(inbox.tenant_id, wait, inboxes.server_time_ms(inbox.client), waited)


def show_retrying(inbox: Inbox, error: ConfkeepError) -> None:
    """Write into the results of a tenant's waiting backups why they wait; of very many, into the
    oldest ones' results.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    batch = inbox.peek(_MOST_SHOWN)
    for start in range(0, len(batch), _SHOWN_AT_ONCE):
        ids = [waiting.entry.backup_id for waiting in batch[start : start + _SHOWN_AT_ONCE]]
        receipts.show_retrying(inbox.client, ids, error, inbox.settings.receipt_ttl_s)
