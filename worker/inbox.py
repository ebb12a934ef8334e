"""A tenant's inbox: accepted and not yet committed backups, in order; it commits none.

An entry is in the stream from the moment its enqueue returned until its receipt is published.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from worker import keys, receipts, scripts
from worker.connections import broker_errors
from worker.errors import PoisonedBackup
from worker.settings import Settings


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
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes | str) -> Entry:
        """The inverse of `to_json`.

        Raises:
            PoisonedBackup: written by something else.
        """
        try:
            entry = cls(**json.loads(text))
            if entry.captured_at is not None:
                dt.datetime.fromisoformat(entry.captured_at)
        except (TypeError, ValueError) as error:
            raise PoisonedBackup("the inbox entry cannot be read") from error
        return entry


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry in its place in the stream."""

    stream_id: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an enqueue."""

    #: `accepted`, `waiting`, `done` or `conflict`, as in `worker/lua/accept.lua`.
    outcome: str
    #: Whether the caller has to send a wake-up.
    wake: bool


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
    """Put backups into their inboxes, in order, in one round trip; each is accepted whole or not.

    Raises:
        BrokerUnavailable: some may have been accepted; repeating all with the same ids is safe.
    """
    script = scripts.load("accept")
    with broker_errors():
        if len(submissions) == 1:
            replies = [script.run(client, *_arguments(settings, submissions[0]))]
        else:
            pipe = client.pipeline(transaction=False)
            pipe.script_load(script.text)
            for submission in submissions:
                names, arguments = _arguments(settings, submission)
                pipe.evalsha(script.sha1, len(names), *names, *arguments)
            replies = pipe.execute()[1:]
    return [Accepted(outcome.decode(), bool(wake)) for outcome, wake in replies]


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
        keys.staged(tenant_id, entry.backup_id),
    ]
    arguments = [
        tenant_id,
        entry.backup_id,
        digest,
        entry.to_json(),
        receipts.pending_record(entry.backup_id, digest),
        settings.receipt_ttl_s,
        int(settings.wake_ttl_s * 1000),
        submission.reply_to or "",
        "0" if submission.data is None else "1",
        submission.data or b"",
    ]
    return names, arguments


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in the stream and is no entry: written by something else."""

    stream_id: str
    text: str = dataclasses.field(repr=False)


def read_batch(
    client: redis.Redis, tenant_id: str, *, max_backups: int, max_bytes: int
) -> tuple[list[Waiting], list[Unreadable]]:
    """The oldest entries, bounded by count and by bytes; a larger one comes alone.

    Returns:
        The entries, and apart from them what is in the stream but is none.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        rows: Any = client.xrange(keys.inbox(tenant_id), count=max_backups)
    batch: list[Waiting] = []
    unreadable: list[Unreadable] = []
    total = 0
    for stream_id, fields in rows:
        text = fields.get(b"entry", b"")
        try:
            entry = Entry.from_json(text)
        except PoisonedBackup:
            unreadable.append(Unreadable(stream_id.decode(), text.decode("utf-8", "replace")))
            continue
        total += entry.size_bytes
        if batch and total > max_bytes:
            break
        batch.append(Waiting(stream_id.decode(), entry))
    return batch, unreadable


def settle(
    client: redis.Redis,
    tenant_id: str,
    settled: Sequence[Waiting],
    *,
    keep_bytes: bool = False,
) -> int:
    """Take entries out, whose outcomes are published, with what belongs to them.

    Args:
        keep_bytes: leave their staged bytes, as for dead letters.

    Returns:
        The number of entries that are left.

    Raises:
        BrokerUnavailable: they may be out; repeating does no harm.
    """
    staged = [
        keys.staged(tenant_id, waiting.entry.backup_id)
        for waiting in settled
        if waiting.entry.staging == "redis" and not keep_bytes
    ]
    names = [
        keys.inbox(tenant_id),
        keys.WAITING,
        keys.replies(tenant_id),
        keys.backoff(tenant_id),
        *staged,
    ]
    arguments = [tenant_id, len(settled), *(waiting.stream_id for waiting in settled)]
    arguments += [waiting.entry.backup_id for waiting in settled]
    with broker_errors():
        return int(scripts.load("settle").run(client, names, arguments))


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
        now_s = _server_time_s(client)
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


def _server_time_s(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
