"""A tenant's inbox: accepted and not yet committed backups, in order.

An entry is in the stream from the moment its enqueue returned until its receipt is published.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotSigned, PoisonedBackup
from confkeep.queue import receipts, wakeups
from confkeep.queue.entry import Entry, check_signature
from confkeep.queue.events import Event
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.queue import totals
from worker.queue.totals import Mark

#: Redis forgets attempts that nobody follows up for so many seconds.
_FORGET_ATTEMPTS_S: Final = 3_600
#: Bytes of waiting backups that come with their entries. What is beyond costs a round trip, and less of the server.
_BYTES_AT_ONCE: Final = 1024 * 1024
#: Most seconds between two tries after a fault; far below the broker's visibility timeout.
LONGEST_WAIT_S: Final = 60.0
#: The same in ms, doubled in case the server's clock is set back.
LONGEST_WAIT_MS: Final = int(2 * LONGEST_WAIT_S * 1000)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in its place in the stream."""

    stream_id: str
    entry: Entry
    #: The entry's signature; None if it has none.
    signature: str | None = None
    #: When it was accepted, in ms; None if an earlier release accepted it: then the stream id says when.
    accepted_ms: int | None = None
    #: The entry's text; a later release may have written more than `entry` has.
    raw: bytes = dataclasses.field(default=b"", repr=False)
    #: Its bytes, if they came with it; else whoever wants them has to read them.
    staged: bytes | None = dataclasses.field(default=None, repr=False)

    @property
    def enqueued_ms(self) -> int:
        """When its enqueue was, by the server's clock."""
        stream_ms = int(self.stream_id.partition("-")[0])
        return stream_ms if self.accepted_ms is None else min(stream_ms, self.accepted_ms)

    def age_s(self, at_ms: int) -> float:
        """Seconds since its enqueue at `at_ms` of the server's clock."""
        return max(0, at_ms - self.enqueued_ms) / 1000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the stream that is no entry of ours."""

    stream_id: str
    text: str = dataclasses.field(repr=False)
    #: Why it is no entry.
    error: PoisonedBackup = dataclasses.field(
        default_factory=lambda: PoisonedBackup("what stood in the inbox is no entry")
    )
    #: The entry, if only its signature is missing or wrong.
    entry: Entry | None = None
    #: The text of the field `entry`; empty if there is none.
    raw: bytes = dataclasses.field(default=b"", repr=False)


#: Whether a turn ends with a settling.
Leave = Literal["no", "empty", "now"]

#: After so many batches in a row that were not settled, entries are tried alone.
ALONE_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be committed next."""

    entries: list[Waiting]
    #: What stands in the stream and is no entry of ours.
    unreadable: list[Unreadable]
    #: How many batches have started and not finished since the last one that was settled.
    attempts: int

    def __bool__(self) -> bool:
        return bool(self.entries or self.unreadable)


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of the wish to begin a batch."""

    #: As in `confkeep/broker/lua/begin.lua`; `begun` if the caller holds the tenant lock now.
    outcome: str
    #: The fields of the tenant's wait after a fault; none if it does not wait.
    wait: dict[bytes, bytes]
    #: When it was, in ms of the server's clock.
    at_ms: int
    batch: Batch


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a settling."""

    #: Entries that are left.
    left: int
    #: When it was, in ms of the server's clock.
    at_ms: int
    #: Whether the turn has ended with it: the tenant lock is free.
    over: bool
    #: Whether a backup of high priority is left.
    high: bool = False


@dataclass(frozen=True, slots=True)
class Inbox:
    """One tenant's inbox, with the client and the settings to work on it.

    Each method raises BrokerUnavailable if Redis does not answer.
    """

    client: redis.Redis
    settings: Settings
    tenant_id: str

    def begin(self, token: str, sent_ms: int | None = None, *, retry: bool = True) -> Begun:
        """Take or renew the tenant lock, and read the oldest entries, up to the settings' bounds.

        An entry above the bound on bytes comes alone. So does the oldest entry after some batches that
        were not settled: it may be what kills the worker.

        Args:
            token: the lock is taken under it.
            sent_ms: when the wake-up was sent that is answered; not answered, and nothing taken, if a
                turn has sent one since. None: it is never outdated.
            retry: begin even before the tenant's next try after a fault is due.

        Raises:
            BrokerUnavailable: Redis did not answer; the lock may be held until it expires.
        """
        settings, tenant_id = self.settings, self.tenant_id
        names = [
            keys.inbox(tenant_id),
            keys.wake(tenant_id),
            keys.backoff(tenant_id),
            keys.lock(tenant_id),
            keys.attempts(tenant_id),
        ]
        arguments: list[Any] = [
            token,
            int(settings.lock_ttl_s * 1000),
            "" if sent_ms is None else sent_ms,
            "1" if retry else "0",
            LONGEST_WAIT_MS,
            settings.batch_max_backups,
            ALONE_AFTER,
            _FORGET_ATTEMPTS_S,
            keys.staged(tenant_id, ""),
            _BYTES_AT_ONCE,
        ]
        with broker_errors():
            outcome, wait, at_ms, tries, rows = scripts.load("begin").run(
                self.client, names, arguments
            )
        entries, unreadable = _parse(rows, tenant_id, settings)
        total = 0
        for number, waiting in enumerate(entries):
            total += waiting.entry.size_bytes
            if number and total > settings.batch_max_bytes:
                del entries[number:]
                break
        batch = Batch(entries, unreadable, max(0, tries - 1))
        return Begun(outcome.decode(), dict(_pairs(wait)), at_ms, batch)

    def forget_attempts(self) -> None:
        """Count batches from zero, since no entry is to blame for the last ones."""
        with broker_errors():
            self.client.delete(keys.attempts(self.tenant_id))

    def peek(self, limit: int) -> list[Waiting]:
        """Read the oldest entries without counting a batch. Leaves out what is no entry."""
        rows = redis_values.answer(self.client.xrange, keys.inbox(self.tenant_id), count=limit)
        return _parse(rows or [], self.tenant_id)[0]

    def settle(
        self,
        settled: Sequence[Waiting | Unreadable],
        *,
        outcomes: Mapping[str, Outcome] | None = None,
        marks: Mapping[str, Mark] | None = None,
        events: Mapping[str, Event] | None = None,
        leave: Leave = "no",
        token: str = "",
    ) -> Settled:
        """Publish the receipts of entries and settle them: remove them with their bytes, count and tell them.

        Entries are named by their backup_ids, and what is no entry by its stream id.

        Args:
            outcomes: the receipts; none where they are published already.
            marks: how the totals count each; each counts once, however often it is settled. The staged
                bytes of those that count as dead stay, since their letters need them.
            events: what is told of each.
            leave: whether the turn ends: `empty`, if nothing is left; `now`, in any case. Then the lock
                and the flag go, in the same step; with entries left, the flag is that of a wake-up
                which the caller has to send, with the time of the settling.
            token: that of the caller's lock.

        Raises:
            BrokerUnavailable: they may be out; repeating does no harm.
        """
        outcomes, marks, events = outcomes or {}, marks or {}, events or {}
        staged = [
            keys.staged(self.tenant_id, waiting.entry.backup_id)
            for waiting in settled
            if isinstance(waiting, Waiting)
            and waiting.entry.staging == "redis"
            and marks.get(waiting.entry.backup_id) is not totals.DEAD
        ]
        names = [
            keys.inbox(self.tenant_id),
            keys.WAITING,
            keys.replies(self.tenant_id),
            keys.backoff(self.tenant_id),
            keys.attempts(self.tenant_id),
            keys.LOAD,
            keys.TOTALS,
            keys.RECENT,
            keys.EVENTS,
            keys.lock(self.tenant_id),
            keys.wake(self.tenant_id),
            *staged,
        ]
        arguments: list[Any] = [
            self.tenant_id,
            totals.RECENT_ROWS,
            totals.BOUNDS_JSON,
            self.settings.events_max,
            leave,
            token,
            wakeups.FLAG_LIFE_MS,
            keys.result(""),
            self.settings.receipt_ttl_s,
        ]
        for number, waiting in enumerate(settled):
            name, backup_id, size, enqueued_ms = waiting.stream_id, "", 0, 0
            if isinstance(waiting, Waiting):
                name = backup_id = waiting.entry.backup_id
                size, enqueued_ms = waiting.entry.size_bytes, waiting.enqueued_ms
            mark = marks.get(name, totals.UNCOUNTED)
            row = ""
            # The list of last commits keeps only these.
            if mark.recent is not None and number >= len(settled) - totals.RECENT_ROWS:
                row = json.dumps(mark.recent.model_dump(mode="json"))
            words = " ".join(mark.words)
            event = events.get(name)
            told = "" if event is None else event.to_json()
            outcome = outcomes.get(name)
            receipt = guard = ""
            if outcome is not None:
                backup_id = outcome.backup_id
                receipt, guard = receipts.final_parts(outcome)
            arguments += [waiting.stream_id, waiting.raw, backup_id, size, words, row]
            arguments += [enqueued_ms, told, receipt, guard]
        with broker_errors():
            left, at_ms, over = scripts.load("settle").run(self.client, names, arguments)
        return Settled(left, at_ms, bool(over), over == 2)

    def hold(self, token: str) -> TenantLock:
        """The tenant lock that `begin` has just taken under a token."""
        key, ttl_s = keys.lock(self.tenant_id), self.settings.lock_ttl_s
        return locks.hold(self.client, key, ttl_s, token)

    def claim_wake(self, read: bytes | None, now_ms: int) -> bool:
        """Set the wake flag for another wake-up, if it is unchanged since it was read.

        Raises:
            redis.RedisError: Redis did not answer.
        """
        upto_ms = wakeups.high_upto(read)
        flag = f"{now_ms}" if upto_ms is None else f"{now_ms}h{upto_ms}"
        names, arguments = [keys.wake(self.tenant_id)], [read or b"", flag, wakeups.FLAG_LIFE_MS]
        return bool(scripts.load("claim_wake").run(self.client, names, arguments))

    def clear_wake(self) -> bool:
        """Clear the wake flag: the next accepted backup sends a wake-up.

        Returns:
            Whether a backup of high priority waited.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        pipe = self.client.pipeline(transaction=False)
        pipe.get(keys.wake(self.tenant_id))
        pipe.delete(keys.wake(self.tenant_id))
        return wakeups.high_upto(redis_values.answers(pipe)[0]) is not None

    def depth(self) -> int:
        """Count the backups that wait."""
        return redis_values.answer(self.client.xlen, keys.inbox(self.tenant_id)) or 0


def _parse(
    rows: Any, tenant_id: str, settings: Settings | None = None
) -> tuple[list[Waiting], list[Unreadable]]:
    entries: list[Waiting] = []
    unreadable: list[Unreadable] = []
    for raw_id, found, *read in rows:
        # Names and values: a script gives them in one list, redis-py as a dict.
        fields = found if isinstance(found, dict) else dict(_pairs(found or []))
        stream_id = raw_id.decode()
        text = fields.get(b"entry", b"")
        signature = fields[b"signature"].decode("latin-1") if b"signature" in fields else None
        entry = None
        try:
            entry = Entry.from_json(text)
            if settings is not None:
                check_signature(settings, tenant_id, text, signature)
        except PoisonedBackup as error:
            # An entry of ours is a few kB; of something larger the beginning tells enough.
            shown = text[: redis_values.MOST_BYTES].decode("utf-8", "replace")
            if isinstance(error, NotSigned):
                unreadable.append(Unreadable(stream_id, shown, error, entry, raw=text))
            else:
                unreadable.append(Unreadable(stream_id, shown, raw=text))
        else:
            at_ms = redis_values.number_of(fields.get(b"at"), -1)
            accepted_ms = at_ms if 0 <= at_ms < redis_values.LAST_MS else None
            staged = read[0] if read else None
            entries.append(Waiting(stream_id, entry, signature, accepted_ms, text, staged))
    return entries, unreadable


def _pairs(found: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(found[::2], found[1::2], strict=True)
