"""Accepting backups into their inboxes, each whole or not at all; it stages no files and wakes nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from worker import keys, receipts, scripts, wakeups
from worker.connections import broker_errors
from worker.entry import Entry, sign
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Submission:
    """A backup on its way into an inbox."""

    tenant_id: str
    entry: Entry
    #: The staged bytes for Redis; None: they are on the volume already.
    data: bytes | None = dataclasses.field(repr=False)
    #: A result id other than the backup's that wants the receipt too.
    reply_to: str | None = None


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
    ]
    arguments = [
        tenant_id,
        entry.backup_id,
        digest,
        text,
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
        "" if settings.keyring is None else sign(settings.keyring, tenant_id, text),
    ]
    return names, arguments
