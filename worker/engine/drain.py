"""One turn for one tenant: from its inbox to git, in batches, for a slice of time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

from confkeep.errors import BrokerUnavailable, ConfkeepError, QueueError, StoreError
from confkeep.observe.logs import get_logger
from confkeep.queue import receipts, wakeups
from confkeep.queue.receipts import Outcome
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.engine.batch import BatchCommitter
from worker.observe import measure, metrics
from worker.process import own_store, shutdown, waits
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Batch, Inbox, Leave, Unreadable
from worker.store.repository.backup import Signature
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
    """What a turn did; nothing if it did not begin."""

    committed: int = 0
    dead: int = 0
    #: Entries that still wait, and for which the caller has to send a wake-up.
    left: int = 0
    #: Whether that goes before other tenants' bulk.
    high: bool = False
    #: When it ended, in ms of the server's clock.
    ended_ms: int = 0


def drain_inbox(inbox: Inbox, sent_ms: int | None = None, *, retry: bool = True) -> Turn:
    """Answer a wake-up: commit what waits in a tenant's inbox until it is empty or the time slice is over.

    Safe beside another turn of the same tenant: the lock lets one of them work, and where it
    expires the branch's compare-and-swap does. Does nothing if a turn has sent a wake-up of its own since,
    or before the tenant's next try is due: new enqueues must not bypass the wait.

    Args:
        sent_ms: when the wake-up was sent; None if it is never outdated.
        retry: it is the next try after a fault, however soon.

    Raises:
        StoreError, QueueError: a fault of the system; what is not settled is in the inbox still.
    """
    if inbox.tenant_id in _unforgotten:
        inbox.forget_attempts()
        _unforgotten.discard(inbox.tenant_id)
    token, began = locks.new_token(), time.perf_counter()
    begun = inbox.begin(token, sent_ms, retry=retry)
    if begun.outcome != "begun":
        if begun.outcome == "busy":
            measure.count(metrics.WORKER_LOCK_BUSY)
        return Turn()
    measure.observe(metrics.WORKER_LOCK_WAIT, [time.perf_counter() - began])
    lock = inbox.hold(token)
    try:
        turn = _drain(inbox, lock, begun.batch)
    except (StoreError, QueueError):
        # No entry is to blame, however often it comes.
        _forget_attempts(inbox)
        raise
    finally:
        lock.release()
    wait = backoff.parse(begun.wait)
    if wait is not None and (turn.committed or turn.dead):
        waited = turn.committed + turn.dead + turn.left
        waits.tell_over(inbox.tenant_id, wait, turn.ended_ms, waited)
    return turn


def _forget_attempts(inbox: Inbox) -> None:
    """Count attempts from zero; if the server refuses that too, before this process's next turn."""
    try:
        inbox.forget_attempts()
    except BrokerUnavailable:
        _unforgotten.add(inbox.tenant_id)


def _drain(inbox: Inbox, lock: TenantLock, batch: Batch) -> Turn:
    committed = dead = batches = 0
    end = time.monotonic() + inbox.settings.slice_s
    with ExitStack() as opened:
        committer: BatchCommitter | None = None
        while batch and time.monotonic() < end and not lock.lost and not shutdown.requested():
            for found in batch.unreadable:
                _bury(inbox, found)
                dead += 1
            if batch.entries:
                if committer is None:
                    own_store.check(inbox.client, inbox.settings)
                    path = repository_path(inbox.settings.git_store_path, inbox.tenant_id)
                    writer = opened.enter_context(
                        open_for_writing(path, Signature(*inbox.settings.author))
                    )
                    committer = BatchCommitter(inbox, writer)
                batches += 1
                # After a second batch the repository has to be closed before the tenant's next turn begins:
                # its history index is not synced any more.
                leave: Leave = "empty" if batches == 1 else "no"
                done = committer.run(batch, leave=leave, token=lock.token)
                committed += done.committed
                dead += done.dead
                if done.settled.over:
                    lock.let_go()
                    return Turn(committed, dead, ended_ms=done.settled.at_ms)
                if not done.settled.left:
                    break
                if wakeups.high_waits(inbox.client, own_store.shards_of(inbox.settings)):
                    break
            begun = inbox.begin(lock.token)
            if begun.outcome != "begun":
                # Somebody else holds the lock, and sees what is left.
                return Turn(committed, dead, ended_ms=begun.at_ms)
            batch = begun.batch
    settled = inbox.settle([], leave="now", token=lock.token)
    if settled.over:
        lock.let_go()
    left = settled.left if settled.over else 0
    return Turn(committed, dead, left, settled.high, ended_ms=settled.at_ms)


def _bury(inbox: Inbox, found: Unreadable) -> None:
    dead_letters.bury_unreadable(inbox, found, _unsigned(inbox, found))
    log.warning(
        "an inbox entry was refused; it became a dead letter",
        action="inbox.refused",
        tenant_id=inbox.tenant_id,
        reason=str(found.error),
    )
    measure.count(metrics.WORKER_DEAD)


def _unsigned(inbox: Inbox, found: Unreadable) -> Outcome | None:
    """What is published for a backup that its producer did not sign.

    Only while a backup waits under that digest: a planted entry may name one that was committed.
    """
    entry = found.entry
    if entry is None:
        return None
    digest = entry.digest(inbox.tenant_id)
    if not receipts.waits_as(inbox.client, entry.backup_id, digest):
        return None
    return Outcome(entry.backup_id, digest, found.error)


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
