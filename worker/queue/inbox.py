"""A tenant's inbox: accepted and not yet committed backups, in order.

An entry is in the stream from the moment its enqueue returned until its receipt is published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotSigned, PoisonedBackup
from confkeep.queue.entry import Entry, check_signature
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.queue import totals
from worker.queue.totals import Mark

#: Redis forgets attempts that nobody follows up for so many seconds.
_FORGET_ATTEMPTS_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in its place in the stream."""

    stream_id: str
    entry: Entry
    #: The entry's signature; None if it has none.
    signature: str | None = None
    #: When it was handed over or accepted, in ms; None if an earlier release accepted it: then the
    #: stream id says when.
    handed_over_ms: int | None = None
    #: The entry's text; a later release may have written more than `entry` has.
    raw: bytes = dataclasses.field(default=b"", repr=False)

    @property
    def enqueued_ms(self) -> int:
        """When its enqueue was, by the server's clock."""
        accepted_ms = int(self.stream_id.partition("-")[0])
        if self.handed_over_ms is None:
            return accepted_ms
        return min(accepted_ms, self.handed_over_ms)

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
class Settled:
    """What became of a settling."""

    #: Entries that are left.
    left: int
    #: When it was, in ms of the server's clock.
    at_ms: int


@dataclass(frozen=True, slots=True)
class Inbox:
    """One tenant's inbox, with the client and the settings to work on it."""

    client: redis.Redis
    settings: Settings
    tenant_id: str

    def read_batch(self) -> Batch:
        """Read the oldest entries, up to the settings' bounds on count and bytes.

        An entry above the bound on bytes comes alone. So does the oldest entry after some batches that
        were not settled: it may be what kills the worker.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        with broker_errors():
            pipe = self.client.pipeline(transaction=False)
            pipe.xrange(keys.inbox(self.tenant_id), count=self.settings.batch_max_backups)
            pipe.incr(keys.attempts(self.tenant_id))
            pipe.expire(keys.attempts(self.tenant_id), _FORGET_ATTEMPTS_S)
            # The count is no number, or would overflow, where somebody else wrote it.
            rows, attempts, _ = redis_values.answers(pipe, or_refused=True)
            if not rows or attempts is None or attempts < 1:
                self.client.delete(keys.attempts(self.tenant_id))
        rows, attempts = rows or [], max(1, attempts or 1)
        if not rows:
            # Then no counter or mark says any more that something waits.
            self.settle([])
        if attempts > ALONE_AFTER:
            rows = rows[:1]
        entries, unreadable = _parse(rows, self.tenant_id, self.settings)
        total = 0
        for number, waiting in enumerate(entries):
            total += waiting.entry.size_bytes
            if number and total > self.settings.batch_max_bytes:
                del entries[number:]
                break
        return Batch(entries, unreadable, attempts - 1)

    def forget_attempts(self) -> None:
        """Count batches from zero, since no entry is to blame for the last ones.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        with broker_errors():
            self.client.delete(keys.attempts(self.tenant_id))

    def peek(self, limit: int) -> list[Waiting]:
        """Read the oldest entries without counting a batch. Leaves out what is no entry.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        pipe = self.client.pipeline(transaction=False)
        pipe.xrange(keys.inbox(self.tenant_id), count=limit)
        (rows,) = redis_values.answers(pipe)
        return _parse(rows or [], self.tenant_id)[0]

    def settle(
        self,
        settled: Sequence[Waiting | Unreadable],
        *,
        keep_bytes: bool = False,
        marks: Mapping[str, Mark] | None = None,
        events: Mapping[str, Event] | None = None,
    ) -> Settled:
        """Settle entries whose receipts are published: remove them with their bytes, count and tell them.

        Args:
            keep_bytes: leave their staged bytes, which dead letters need.
            marks: how the totals count each, by backup_id, or by stream id for what is no entry. Each
                counts once, however often it is settled.
            events: what is told of each, under the same name.

        Raises:
            BrokerUnavailable: they may be out; repeating does no harm.
        """
        staged = [
            keys.staged(self.tenant_id, waiting.entry.backup_id)
            for waiting in settled
            if isinstance(waiting, Waiting) and waiting.entry.staging == "redis" and not keep_bytes
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
            *staged,
        ]
        arguments: list[Any] = [
            self.tenant_id,
            len(settled),
            totals.RECENT_ROWS,
            totals.BOUNDS_JSON,
            self.settings.events_max,
        ]
        marks, events = marks or {}, events or {}
        for number, waiting in enumerate(settled):
            name, size, enqueued_ms = "", 0, 0
            if isinstance(waiting, Waiting):
                name, size = waiting.entry.backup_id, waiting.entry.size_bytes
                enqueued_ms = waiting.enqueued_ms
            mark = marks.get(name or waiting.stream_id, totals.UNCOUNTED)
            # The list of last commits keeps only these.
            shown = mark.recent is not None and number >= len(settled) - totals.RECENT_ROWS
            row = mark.recent.to_json() if mark.recent is not None and shown else ""
            words = " ".join(mark.words)
            event = events.get(name or waiting.stream_id)
            told = "" if event is None else event.to_json()
            arguments += [waiting.stream_id, waiting.raw, name, size, words, row, enqueued_ms, told]
        with broker_errors():
            left, at_ms = scripts.load("settle").run(self.client, names, arguments)
        return Settled(left, at_ms)

    def depth(self) -> int:
        """Count the backups that wait, in the inbox or as arrivals."""
        pipe = self.client.pipeline(transaction=False)
        pipe.xlen(keys.inbox(self.tenant_id))
        pipe.llen(keys.arrivals(self.tenant_id))
        return sum(length or 0 for length in redis_values.answers(pipe))


def _parse(
    rows: Any, tenant_id: str, settings: Settings | None = None
) -> tuple[list[Waiting], list[Unreadable]]:
    entries: list[Waiting] = []
    unreadable: list[Unreadable] = []
    for raw_id, fields in rows:
        stream_id = raw_id.decode()
        text = fields.get(b"entry", b"") if fields else b""
        signature = _signature_of(fields)
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
            handed_over_ms = at_ms if 0 <= at_ms < redis_values.LAST_MS else None
            entries.append(Waiting(stream_id, entry, signature, handed_over_ms, text))
    return entries, unreadable


def _signature_of(fields: Mapping[bytes, bytes]) -> str | None:
    signature = fields.get(b"signature") if fields else None
    return None if signature is None else signature.decode("latin-1")
