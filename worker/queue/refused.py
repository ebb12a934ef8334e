"""Refused messages: no worker acts on them; they are kept until a person looks or newer ones replace them.

At most 1,000 messages with 32 MiB in all are kept, the newest ones. Of a message above 4 MiB only the
beginning is kept. Each function but `set_aside` raises BrokerUnavailable if Redis does not answer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.queue import receipts
from confkeep.queue.receipts import Outcome
from worker.broker import received
from worker.broker.gate import Refusal
from worker.queue.inbox import Inbox

#: Most messages, and bytes of them, that are kept.
MOST: Final = 1_000
MOST_BYTES: Final = 32 * 1024 * 1024
#: A message up to this length is kept whole; of a longer one, so many bytes.
MOST_WHOLE_BYTES: Final = 4 * 1024 * 1024
_BEGINNING_BYTES: Final = 64 * 1024

#: Read so many at once; each may have 4 MiB.
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was set aside."""

    #: The id of its entry in the stream.
    refused_id: str
    queue: str
    reason: str
    #: ISO 8601, UTC.
    refused_at: str
    #: Of the whole message.
    size_bytes: int
    sha256: str
    #: The task's name if it is one of ours; else ''.
    task: str
    #: The sender's task id; '' if it is no UUID.
    task_id: str
    #: The message, or its beginning.
    message: bytes = dataclasses.field(repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is kept."""
        return len(self.message) == self.size_bytes


def set_aside(
    client: redis.Redis,
    raw: bytes,
    queue: str,
    refusal: Refusal,
    ttl_s: int,
    *,
    unacked_tag: bytes | None = None,
) -> str:
    """Keep a refused message, give its sender a result, and count it, in one step.

    Args:
        ttl_s: seconds that the sender's result lives.
        unacked_tag: remove it from the messages that a worker took.

    Returns:
        The id that it is kept under.

    Raises:
        redis.RedisError: it is not kept.
    """
    kept = raw if len(raw) <= MOST_WHOLE_BYTES else raw[:_BEGINNING_BYTES]
    record = ""
    if refusal.task_id is not None:
        outcome = Outcome(refusal.task_id, None, refusal.error)
        record = receipts.final_record(refusal.task_id, outcome)
    values = {
        "queue": queue,
        "reason": str(refusal.error),
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        "bytes": len(raw),
        "kept": len(kept),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "task": refusal.task or "",
        "id": refusal.task_id or "",
        "message": kept,
    }
    names = [keys.REFUSED, keys.TOTALS, keys.result(refusal.task_id or "")]
    arguments: list[Any] = [MOST, MOST_BYTES, len(kept), record, ttl_s]
    arguments += ["0", ""] if unacked_tag is None else ["1", unacked_tag]
    for name, value in values.items():
        arguments += [name, value]
    found: Any = scripts.load("refuse").run(
        client, [*names, keys.UNACKED, keys.UNACKED_INDEX], arguments
    )
    return str(found.decode())


def count(client: redis.Redis) -> int:
    """How many are kept."""
    return redis_values.answer(client.xlen, keys.REFUSED) or 0


def list_refused(client: redis.Redis) -> Iterator[Refused]:
    """All of them, oldest first."""
    start = "-"
    while True:
        rows = redis_values.answer(client.xrange, keys.REFUSED, start, "+", count=_AT_ONCE) or []
        for refused_id, fields in rows:
            yield _of(refused_id, fields)
        if len(rows) < _AT_ONCE:
            return
        start = "(" + rows[-1][0].decode()


def discard(client: redis.Redis, refused_ids: list[str]) -> int:
    """Delete some for good.

    Returns:
        How many there were.
    """
    if not refused_ids:
        return 0
    with broker_errors():
        gone = int(client.xdel(keys.REFUSED, *refused_ids))
        if not client.xlen(keys.REFUSED):
            client.delete(keys.REFUSED)
    return gone


def forget(inbox: Inbox, device_id: str | None) -> int:
    """Delete messages that may hold a backup of a device or a tenant, unreadable ones too.

    Returns:
        How many there were.
    """
    found = []
    for one in list_refused(inbox.client):
        message = received.parse(one.message, wrapped=one.queue == keys.UNACKED)
        if message is not None and (
            message.tenant_id in (None, inbox.tenant_id)
            and (device_id is None or message.device_id in (None, device_id))
        ):
            found.append(one.refused_id)
    return discard(inbox.client, found)


def _of(refused_id: bytes, fields: dict[bytes, bytes]) -> Refused:
    """Missing fields become empty: anybody may have written the entry."""

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    message, size = fields.get(b"message", b""), text(b"bytes")
    return Refused(
        refused_id=refused_id.decode(),
        queue=text(b"queue"),
        reason=text(b"reason"),
        refused_at=text(b"at"),
        size_bytes=int(size) if size.isdecimal() and len(size) < 20 else len(message),
        sha256=text(b"sha256"),
        task=text(b"task"),
        task_id=text(b"id"),
        message=message,
    )
