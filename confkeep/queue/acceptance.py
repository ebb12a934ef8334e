"""Accept backups into their inboxes, each whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from confkeep.broker import keys, replicas, scripts
from confkeep.broker.connections import broker_errors
from confkeep.queue import receipts, wakeups
from confkeep.queue.entry import Entry, sign
from confkeep.queue.staged_bytes import Staged
from confkeep.settings import Settings


@dataclass(frozen=True, slots=True)
class Submission:
    """A backup to put into an inbox."""

    tenant_id: str
    entry: Entry
    #: The staged bytes for Redis; None if they are on the volume.
    data: Staged | None = dataclasses.field(repr=False)
    #: A further result id to store the receipt under.
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an enqueue."""

    #: As in `confkeep/broker/lua/accept.lua`.
    outcome: str
    #: The ms of the wake-up that was sent with it; None if none was.
    wake_ms: int | None = None
    #: What waits already, if a limit is reached; else 0.
    entries: int = 0
    bytes: int = 0


def accept(
    client: redis.Redis, settings: Settings, submissions: Sequence[Submission]
) -> list[Accepted]:
    """Put backups into their inboxes, in order, each whole or not at all, and wake their tenants.

    Raises:
        NotPermitted: the user may not run scripts; nothing was accepted.
        BrokerUnavailable: some may have been accepted; repeating all with the same ids is safe.
    """
    names: list[str] = []
    arguments: list[Any] = []
    tenants: set[str] = set()
    for submission in submissions:
        first = submission.tenant_id not in tenants
        tenants.add(submission.tenant_id)
        its_names, its_arguments = _arguments(settings, submission, first=first)
        names += its_names
        arguments += its_arguments
    names += [keys.ROOM, keys.TOTALS]
    with broker_errors():
        replies = replicas.run(client, settings, scripts.load("accept"), names, arguments)
    return [
        Accepted(outcome.decode(), wake or None, entries, size)
        for outcome, wake, entries, size in replies
    ]


def _arguments(
    settings: Settings, submission: Submission, *, first: bool
) -> tuple[list[str], list[Any]]:
    tenant_id, entry = submission.tenant_id, submission.entry
    digest = entry.digest(tenant_id)
    text = entry.to_json()
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
        keys.queue_of(tenant_id, settings.shards),
    ]
    arguments = [
        tenant_id,
        entry.backup_id,
        digest,
        text,
        receipts.pending_record(entry.backup_id, digest, tenant_id),
        settings.receipt_ttl_s,
        wakeups.FLAG_LIFE_MS,
        submission.reply_to or "",
        entry.size_bytes,
        settings.inbox_max_backups,
        settings.inbox_max_bytes,
        settings.total_max_backups,
        settings.total_max_bytes,
        "0" if submission.data is None else "1",
        submission.data or b"",
        "" if settings.keyring is None else sign(settings.keyring, tenant_id, text),
        *(wakeups.message(tenant_id) if first else ("", "")),
    ]
    return names, arguments
