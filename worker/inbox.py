"""A tenant's inbox: accepted and not yet committed backups, in order; it commits none.

An entry is in the stream from the moment its enqueue returned until its receipt is published.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from worker import keys, receipts, scripts, totals, wakeups
from worker.connections import broker_errors
from worker.errors import PoisonedBackup
from worker.ids import checked_uuid
from worker.settings import Settings
from worker.totals import Mark

#: Seconds after which attempts are forgotten that nobody followed up.
_FORGET_ATTEMPTS_S: Final = 3_600

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What an inbox knows of a backup; its bytes are in staging."""

    backup_id: str
    device_id: str
    message: str
    #: ISO 8601 with an offset, or None.
    captured_at: str | None
    export_bytes: int
    export_sha256: str
    #: None, like the next: the capture has no binary.
    binary_bytes: int | None
    binary_sha256: str | None
    #: Where the bytes are: `redis` or `volume`.
    staging: str

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return self.export_bytes + (self.binary_bytes or 0)

    def digest(self, tenant_id: str) -> str:
        """What makes two backups of one id the same: tenant, device and bytes.

        Not the message and the time of the capture: a producer that repeats a call may well make
        them anew.
        """
        parts = (tenant_id, self.device_id, self.export_sha256, self.binary_sha256 or "-")
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def to_json(self) -> str:
        """The text that stands in the stream; ASCII."""
        values = {field: getattr(self, field) for field in self.__slots__}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes | str) -> Entry:
        """The inverse of `to_json`.

        Raises:
            PoisonedBackup: written by something else.
        """
        try:
            entry = cls(**json.loads(text))
            entry.check()
        except (TypeError, ValueError, AttributeError) as error:
            raise PoisonedBackup("the inbox entry cannot be read") from error
        return entry

    def check(self) -> None:
        """Refuse what no enqueue writes: others may be able to write to the server too.

        Raises:
            TypeError, ValueError: a field is not what it must be.
        """
        for name in ("backup_id", "device_id"):
            if checked_uuid(name, getattr(self, name)) != getattr(self, name):
                raise ValueError(name)
        if b"\0" in self.message.encode("utf-8", "surrogateescape"):
            raise ValueError("message")
        if self.captured_at is not None:
            when = dt.datetime.fromisoformat(self.captured_at)
            if when.utcoffset() is None or not 0 <= when.timestamp() < 2**32:
                raise ValueError("captured_at")
        if (self.binary_bytes is None) != (self.binary_sha256 is None):
            raise ValueError("binary_sha256")
        for size in (self.export_bytes, self.binary_bytes or 0):
            if type(size) is not int or size < 0:
                raise ValueError("size")
        for digest in (self.export_sha256, self.binary_sha256 or "0" * 64):
            if not _SHA256.fullmatch(digest):
                raise ValueError("sha256")
        if self.staging not in ("redis", "volume"):
            raise ValueError("staging")


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in its place in the stream."""

    stream_id: str
    entry: Entry

    def age_s(self, at_ms: int) -> float:
        """Seconds since its enqueue at `at_ms` of the server's clock."""
        return max(0, at_ms - int(self.stream_id.partition("-")[0])) / 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an enqueue."""

    #: As in `worker/lua/accept.lua`.
    outcome: str
    #: The ms with which the caller has to send a wake-up; None: none.
    wake_ms: int | None = None
    #: What waits already where it is full, else 0.
    entries: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """A backup on its way into an inbox."""

    tenant_id: str
    entry: Entry
    #: The staged bytes for Redis; None: they are on the volume already.
    data: bytes | None = dataclasses.field(repr=False)
    #: A result id other than the backup's that wants the receipt too.
    reply_to: str | None = None


def accept(
    client: redis.Redis, settings: Settings, submissions: Sequence[Submission]
) -> list[Accepted]:
    """Put backups into their inboxes, in order, in one step; each is accepted whole or not.

    Raises:
        BrokerUnavailable: some may have been accepted; repeating all with the same ids is safe.
    """
    names: list[str] = []
    arguments: list[Any] = []
    for submission in submissions:
        its_names, its_arguments = _arguments(settings, submission)
        names += its_names
        arguments += its_arguments
    with broker_errors():
        replies = scripts.load("accept").run(client, [*names, keys.TOTALS], arguments)
    return [
        Accepted(outcome.decode(), wake or None, entries, size)
        for outcome, wake, entries, size in replies
    ]


def _arguments(settings: Settings, submission: Submission) -> tuple[list[str], list[Any]]:
    tenant_id, entry = submission.tenant_id, submission.entry
    digest = entry.digest(tenant_id)
    names = [
        keys.result(entry.backup_id),
        keys.inbox(tenant_id),
        keys.WAITING,
        keys.wake(tenant_id),
        keys.replies(tenant_id),
        keys.DEAD,
        keys.LOAD,
        keys.backoff(tenant_id),
        keys.staged(tenant_id, entry.backup_id),
    ]
    arguments = [
        tenant_id,
        entry.backup_id,
        digest,
        entry.to_json(),
        receipts.pending_record(entry.backup_id, digest),
        settings.receipt_ttl_s,
        int(wakeups.FLAG_LIFE_S * 1000),
        submission.reply_to or "",
        entry.size_bytes,
        settings.inbox_max_backups,
        settings.inbox_max_bytes,
        settings.total_max_backups,
        settings.total_max_bytes,
        "0" if submission.data is None else "1",
        submission.data or b"",
    ]
    return names, arguments


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in the stream and is no entry: written by something else."""

    stream_id: str
    text: str = dataclasses.field(repr=False)


#: Batches that may begin without one being settled before entries are tried alone.
ALONE_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be committed next."""

    entries: list[Waiting]
    #: What is in the stream but is no entry.
    unreadable: list[Unreadable]
    #: Batches that began before this one since one was last settled. Each ended with its process,
    #: or with an error.
    attempts: int

    def __bool__(self) -> bool:
        return bool(self.entries or self.unreadable)


def read_batch(client: redis.Redis, tenant_id: str, *, max_backups: int, max_bytes: int) -> Batch:
    """The oldest entries, bounded by count and by bytes; a larger one comes alone.

    Also after some attempts that settled nothing, the oldest entry comes alone: it may be what
    kills them.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        pipe = client.pipeline(transaction=False)
        pipe.xrange(keys.inbox(tenant_id), count=max_backups)
        pipe.incr(keys.attempts(tenant_id))
        pipe.expire(keys.attempts(tenant_id), _FORGET_ATTEMPTS_S)
        rows, attempts, _ = pipe.execute()
        if not rows:
            client.delete(keys.attempts(tenant_id))
    if attempts > ALONE_AFTER:
        rows = rows[:1]
    entries, unreadable = _parse(rows)
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


def _parse(rows: Any) -> tuple[list[Waiting], list[Unreadable]]:
    entries: list[Waiting] = []
    unreadable: list[Unreadable] = []
    for stream_id, fields in rows:
        text = fields.get(b"entry", b"")
        try:
            entry = Entry.from_json(text)
        except PoisonedBackup:
            unreadable.append(Unreadable(stream_id.decode(), text.decode("utf-8", "replace")))
        else:
            entries.append(Waiting(stream_id.decode(), entry))
    return entries, unreadable


def peek(client: redis.Redis, tenant_id: str, limit: int) -> list[Waiting]:
    """The oldest entries, without beginning an attempt; what is no entry is left out.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        rows: Any = client.xrange(keys.inbox(tenant_id), count=limit)
    return _parse(rows)[0]


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
        name, size = "", 0
        if isinstance(waiting, Waiting):
            name, size = waiting.entry.backup_id, waiting.entry.size_bytes
        mark = marks.get(name or waiting.stream_id, totals.UNCOUNTED)
        # Of a long batch only the last ones stay.
        shown = mark.recent is not None and number >= len(settled) - totals.RECENT_ROWS
        row = mark.recent.to_json() if mark.recent is not None and shown else ""
        arguments += [waiting.stream_id, name, size, " ".join(mark.words), row]
    with broker_errors():
        left, at_ms = scripts.load("settle").run(client, names, arguments)
    return Settled(left, at_ms)


def depth(client: redis.Redis, tenant_id: str) -> int:
    """The number of entries that wait."""
    with broker_errors():
        return int(client.xlen(keys.inbox(tenant_id)))


@dataclass(frozen=True, slots=True)
class InboxStatus:
    """A non-empty inbox."""

    tenant_id: str
    entries: int
    #: Seconds that its oldest entry has waited, by the server's clock.
    oldest_age_s: float


def list_inboxes(client: redis.Redis, limit: int | None = None) -> list[InboxStatus]:
    """The non-empty inboxes, those with the oldest entries first.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        now_s = server_time_ms(client) / 1000
        last = -1 if limit is None else limit - 1
        rows: Any = client.zrange(keys.WAITING, 0, last, withscores=True)
        pipe = client.pipeline(transaction=False)
        for tenant, _since_ms in rows:
            pipe.xlen(keys.inbox(tenant.decode()))
        lengths = pipe.execute()
    return [
        InboxStatus(tenant.decode(), length, max(0.0, now_s - since_ms / 1000))
        for (tenant, since_ms), length in zip(rows, lengths, strict=True)
        if length
    ]


@dataclass(frozen=True, slots=True)
class Load:
    """What waits in all inboxes, as `accept` counts it against the limits."""

    entries: int
    bytes: int
    #: The bytes that wait for each tenant.
    tenant_bytes: dict[str, int]


def read_load(client: redis.Redis) -> Load:
    """What waits in all.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        found: Any = client.hgetall(keys.LOAD)
    numbers = {name.decode(): int(value) for name, value in found.items()}
    entries, size = numbers.pop("entries", 0), numbers.pop("bytes", 0)
    return Load(entries, size, numbers)


def queue_depths(client: redis.Redis, settings: Settings) -> dict[int, int]:
    """The wake-ups that wait in each shard's queue.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        pipe = client.pipeline(transaction=False)
        for shard in range(settings.shards):
            pipe.llen(keys.shard_queue(shard))
        return dict(enumerate(pipe.execute()))


def server_time_ms(client: redis.Redis) -> int:
    """The server's clock, which all dates in Redis go by: ms since 1970.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        now: Any = client.time()
    return int(now[0]) * 1000 + int(now[1]) // 1000
