"""A tenant's inbox: accepted and not yet committed backups, in order; it commits none.

An entry is in the stream from the moment its enqueue returned until its receipt is published.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotPermitted, NotSigned, PoisonedBackup
from confkeep.queue import arrivals
from confkeep.queue.entry import Entry, check_signature
from confkeep.settings import Settings
from worker.queue import totals
from worker.queue.totals import Mark

#: The last moment that is shown as a date: the end of the year 9999.
_LAST_MS: Final = 253_402_300_799_000
#: Part of the limits from which on a person should look.
_NEARLY_FULL: Final = 0.8
#: Seconds after which attempts are forgotten that nobody followed up.
_FORGET_ATTEMPTS_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in its place in the stream."""

    stream_id: str
    entry: Entry
    #: That of the entry; None: it has none.
    signature: str | None = None
    #: When it was handed over or accepted; None: an earlier release, which tells it by the stream id,
    #: accepted it.
    handed_over_ms: int | None = None
    #: The entry as it stands there: a later release may have written more.
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
    """What stands in the stream and is no entry of ours: written by something else."""

    stream_id: str
    text: str = dataclasses.field(repr=False)
    #: Why it is none.
    error: PoisonedBackup = dataclasses.field(
        default_factory=lambda: PoisonedBackup("what stood in the inbox is no entry")
    )
    #: What it says, when only its signature is missing or wrong.
    entry: Entry | None = None
    #: The field `entry` as it stands there; none: empty.
    raw: bytes = dataclasses.field(default=b"", repr=False)


#: Batches that may begin without one being settled before entries are tried alone.
ALONE_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be committed next."""

    entries: list[Waiting]
    #: What is in the stream but is no entry of ours.
    unreadable: list[Unreadable]
    #: Batches that began before this one since one was last settled. Each ended with its process,
    #: or with an error.
    attempts: int

    def __bool__(self) -> bool:
        return bool(self.entries or self.unreadable)


def read_batch(
    client: redis.Redis,
    tenant_id: str,
    *,
    max_backups: int,
    max_bytes: int,
    settings: Settings | None = None,
) -> Batch:
    """The oldest entries, bounded by count and by bytes; a larger one comes alone.

    Also after some attempts that settled nothing, the oldest entry comes alone: it may be what
    kills them.

    Args:
        settings: say which signatures are wanted; None: none.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        pipe = client.pipeline(transaction=False)
        pipe.xrange(keys.inbox(tenant_id), count=max_backups)
        pipe.incr(keys.attempts(tenant_id))
        pipe.expire(keys.attempts(tenant_id), _FORGET_ATTEMPTS_S)
        # The count is no number, or would overflow, where somebody else wrote it.
        rows, attempts, _ = redis_values.answers(pipe, or_refused=True)
        if not rows or attempts is None or attempts < 1:
            client.delete(keys.attempts(tenant_id))
    rows, attempts = rows or [], max(1, attempts or 1)
    if not rows:
        # Nor does anything say any more that something waits.
        settle(client, tenant_id, [])
    if attempts > ALONE_AFTER:
        rows = rows[:1]
    entries, unreadable = _parse(rows, tenant_id, settings)
    total = 0
    for number, waiting in enumerate(entries):
        total += waiting.entry.size_bytes
        if number and total > max_bytes:
            del entries[number:]
            break
    return Batch(entries, unreadable, attempts - 1)


def forget_attempts(client: redis.Redis, tenant_id: str) -> None:
    """Count anew: the last batches failed for a reason that lies in no entry.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        client.delete(keys.attempts(tenant_id))


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
            handed_over_ms = at_ms if 0 <= at_ms < _LAST_MS else None
            entries.append(Waiting(stream_id, entry, signature, handed_over_ms, text))
    return entries, unreadable


def _signature_of(fields: Mapping[bytes, bytes]) -> str | None:
    signature = fields.get(b"signature") if fields else None
    return None if signature is None else signature.decode("latin-1")


def peek(client: redis.Redis, tenant_id: str, limit: int) -> list[Waiting]:
    """The oldest entries, without beginning an attempt; what is no entry is left out.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.xrange(keys.inbox(tenant_id), count=limit)
    (rows,) = redis_values.answers(pipe)
    return _parse(rows or [], tenant_id)[0]


def has_entry(client: redis.Redis, backup_id: str, record: Mapping[str, Any]) -> bool:
    """Whether the entry is there that a waiting backup's record names.

    Also where nobody can tell: the record is an earlier release's, or this user may not look.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    tenant_id, stream_id = record.get("tenant"), record.get("entry")
    if not isinstance(tenant_id, str) or not isinstance(stream_id, str):
        return True
    try:
        with broker_errors():
            rows: Any = client.xrange(keys.inbox(tenant_id), stream_id, stream_id)
    except NotPermitted:
        return True
    return any(backup_id.encode() in fields.get(b"entry", b"") for _id, fields in rows)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a settling."""

    #: Entries that are left.
    left: int
    #: When, by the server's clock.
    at_ms: int


def settle(
    client: redis.Redis,
    tenant_id: str,
    settled: Sequence[Waiting | Unreadable],
    *,
    keep_bytes: bool = False,
    marks: Mapping[str, Mark] | None = None,
) -> Settled:
    """Take entries out, whose outcomes are published, with what belongs to them, and count them.

    Args:
        keep_bytes: leave their staged bytes, as for dead letters.
        marks: by backup_id (of what is no entry: by stream id), how the totals count it. Each is
            counted once, however often it is settled.

    Raises:
        BrokerUnavailable: they may be out; repeating does no harm.
    """
    staged = [
        keys.staged(tenant_id, waiting.entry.backup_id)
        for waiting in settled
        if isinstance(waiting, Waiting) and waiting.entry.staging == "redis" and not keep_bytes
    ]
    names = [
        keys.inbox(tenant_id),
        keys.WAITING,
        keys.replies(tenant_id),
        keys.backoff(tenant_id),
        keys.attempts(tenant_id),
        keys.LOAD,
        keys.TOTALS,
        keys.RECENT,
        *staged,
    ]
    arguments: list[Any] = [tenant_id, len(settled), totals.RECENT_ROWS, totals.BOUNDS_JSON]
    marks = marks or {}
    for number, waiting in enumerate(settled):
        name, size, enqueued_ms = "", 0, 0
        if isinstance(waiting, Waiting):
            name, size = waiting.entry.backup_id, waiting.entry.size_bytes
            enqueued_ms = waiting.enqueued_ms
        mark = marks.get(name or waiting.stream_id, totals.UNCOUNTED)
        # Of a long batch only the last ones stay.
        shown = mark.recent is not None and number >= len(settled) - totals.RECENT_ROWS
        row = mark.recent.to_json() if mark.recent is not None and shown else ""
        words = " ".join(mark.words)
        arguments += [waiting.stream_id, waiting.raw, name, size, words, row, enqueued_ms]
    with broker_errors():
        left, at_ms = scripts.load("settle").run(client, names, arguments)
    return Settled(left, at_ms)


def depth(client: redis.Redis, tenant_id: str) -> int:
    """The number of backups that wait, in the inbox or still to be admitted to it."""
    pipe = client.pipeline(transaction=False)
    pipe.xlen(keys.inbox(tenant_id))
    pipe.llen(keys.arrivals(tenant_id))
    return sum(length or 0 for length in redis_values.answers(pipe))


@dataclass(frozen=True, slots=True)
class InboxStatus:
    """A non-empty inbox."""

    tenant_id: str
    entries: int
    #: Seconds that its oldest entry has waited, by the server's clock.
    oldest_age_s: float


def list_inboxes(client: redis.Redis, limit: int | None = None) -> list[InboxStatus]:
    """The non-empty inboxes, those with the oldest entries first; with what was handed over for them.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    marked = arrivals.marked(client)
    now_ms = server_time_ms(client)
    last = -1 if limit is None else limit - 1
    since_ms = _since_ms(client, last)
    tenants = [*since_ms, *(marked - since_ms.keys())]
    pipe = client.pipeline(transaction=False)
    for tenant_id in tenants:
        pipe.xlen(keys.inbox(tenant_id))
    for tenant_id in marked:
        pipe.llen(keys.arrivals(tenant_id))
        pipe.lindex(keys.arrivals(tenant_id), 0)
    found = iter(redis_values.answers(pipe))
    lengths = {tenant_id: next(found) or 0 for tenant_id in tenants}
    for tenant_id in marked:
        lengths[tenant_id] += next(found) or 0
        handed_over_ms = arrivals.handed_over_ms(next(found))
        since_ms[tenant_id] = min(since_ms.get(tenant_id, now_ms), handed_over_ms or now_ms)
    inboxes = [
        InboxStatus(tenant_id, length, max(0.0, (now_ms - since_ms.get(tenant_id, now_ms)) / 1000))
        for tenant_id, length in lengths.items()
        if length
    ]
    inboxes.sort(key=lambda box: -box.oldest_age_s)
    return inboxes[:limit]


def _since_ms(client: redis.Redis, last: int) -> dict[str, float]:
    """The tenants that wait, and since when; what is no tenant is left out."""
    pipe = client.pipeline(transaction=False)
    pipe.zrange(keys.WAITING, 0, last, withscores=True)
    (rows,) = redis_values.answers(pipe)
    tenants = ((redis_values.tenant_of(name), since) for name, since in rows or ())
    return {tenant: max(0, min(since, _LAST_MS)) for tenant, since in tenants if tenant is not None}


def waiting_tenants(client: redis.Redis) -> list[str]:
    """The tenants whose inboxes are not empty, those with the oldest entries first.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return list(_since_ms(client, -1))


def count_inboxes(client: redis.Redis) -> int:
    """How many inboxes are not empty, or have arrivals.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    marked = arrivals.marked(client)
    pipe = client.pipeline(transaction=False)
    pipe.zcard(keys.WAITING)
    if marked:
        pipe.zmscore(keys.WAITING, list(marked))
    count, *scores = redis_values.answers(pipe)
    return int(count or 0) + sum((found or [None] * len(marked)).count(None) for found in scores)


@dataclass(frozen=True, slots=True)
class Load:
    """What waits in all inboxes, and what was handed over for them."""

    entries: int
    bytes: int
    #: The bytes that wait for each tenant.
    tenant_bytes: dict[str, int]
    #: Most bytes that the server's memory has room for, as workers noted it; None: no limit.
    room: int | None = None

    def most_bytes(self, settings: Settings) -> int:
        """Most bytes that may wait for all tenants."""
        if self.room is None or settings.staging != "redis":
            return settings.total_max_bytes
        return min(self.room, settings.total_max_bytes)

    def nearly_full(self, settings: Settings) -> bool:
        """Whether so much of the limits is taken that a person should look."""
        return self.full(settings) >= _NEARLY_FULL

    def full(self, settings: Settings) -> float:
        """The part of the limits on what may wait for all tenants that is taken."""
        return max(
            self.entries / settings.total_max_backups, self.bytes / self.most_bytes(settings)
        )


def read_load(client: redis.Redis) -> Load:
    """What waits in all.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hgetall(keys.LOAD)
    pipe.hgetall(keys.ARRIVING)
    pipe.get(keys.ROOM)
    *counts, room = redis_values.answers(pipe)
    sums: Counter[bytes] = Counter()
    numbers: Counter[str] = Counter()
    for found in counts:
        for name, value in (found or {}).items():
            tenant_id = redis_values.tenant_of(name)
            if tenant_id is None:
                sums[name] += redis_values.count_of(value)
            else:
                numbers[tenant_id] += redis_values.count_of(value)
    return Load(sums[b"entries"], sums[b"bytes"], dict(numbers), redis_values.room_of(room))


def queue_depths(client: redis.Redis, settings: Settings) -> dict[int, int]:
    """The wake-ups that wait in each shard's queue.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    for shard in range(settings.shards):
        pipe.llen(keys.shard_queue(shard))
    return {shard: depth or 0 for shard, depth in enumerate(redis_values.answers(pipe))}


def server_time_ms(client: redis.Redis) -> int:
    """The server's clock, which all dates in Redis go by: ms since 1970.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        now: Any = client.time()
    return int(now[0]) * 1000 + int(now[1]) // 1000
