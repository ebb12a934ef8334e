"""Enqueue backups: validate, stage, put into the inbox and wake a worker."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import get_args

import redis

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import (
    BackupIdConflict,
    ConfkeepError,
    InboxFull,
    InvalidBackup,
    OddValue,
)
from confkeep.models import BackupFields, BackupPayload, NamingPayload, Priority
from confkeep.observe.logs import get_logger
from confkeep.queue import acceptance, receipts, staging, wakeups
from confkeep.queue.acceptance import Accepted, Submission
from confkeep.queue.entry import NOWHERE, Entry
from confkeep.queue.staged_bytes import Contents
from confkeep.results import BackupResult
from confkeep.routeros.suspect import why_suspect
from confkeep.settings import get_settings
from confkeep.wording import waiting_text

log = get_logger("enqueue")

_Payload = BackupPayload | NamingPayload

#: Most bytes and backups in one call to Redis: enough that its fsync per call costs little, and few
#: enough that the next chunk is prepared meanwhile.
_CHUNK_BYTES = 1_500_000
_CHUNK_BACKUPS = 500


def enqueue_backup(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    export_text: str | bytes,
    binary_backup: bytes | None,
    message: str,
    *,
    backup_id: str | uuid.UUID | None = None,
    captured_at: dt.datetime | None = None,
    device_name: str | None = None,
    device_address: str | None = None,
    device_model: str | None = None,
    device_group: str | None = None,
    priority: Priority = "normal",
) -> BackupResult:
    """Accept one backup. Once this returns, it is committed exactly once, whichever process dies.

    Args:
        export_text: the text export, at most 16 MiB as UTF-8 and not blank. Bytes, and text that
            was read with `errors="surrogateescape"`, come back byte for byte.
        binary_backup: the `.backup` file, at most 64 MiB; None when the capture has none.
        message: the commit's message, at most 4 KiB as UTF-8.
        backup_id: identifies this backup for ever; None makes a new one. Choose your own to be able
            to repeat the call after an error: the same id is committed once.
        captured_at: when the device was polled, with a time zone; becomes the author date.
        device_name, device_address, device_model, device_group: the device's labels, at most 253
            characters each. They stay until others are given; an empty text takes one away.
        priority: `high` for what a person waits for: it overtakes other tenants' backups. What its own
            tenant enqueued before is committed before.

    Returns:
        A result whose id is the backup_id and whose `.receipt(timeout)` waits for the receipt, as
        `await` does in asyncio.

    Raises:
        InvalidBackup: names the field and its limit; nothing is left behind.
        BackupIdConflict: the id was accepted before for other bytes or another device.
        InboxFull: too many backups wait already, for this tenant or in all; nothing was accepted.
        OddValue: a key that it needs holds a foreign value; nothing was accepted.
        BrokerUnavailable: Redis did not answer. Whether it was accepted is unknown: repeat the
            call with the same backup_id.
        StagingUnavailable: the shared volume refused; nothing was accepted.
    """
    values: BackupFields = {
        "tenant_id": tenant_id,
        "device_id": device_id,
        "export_text": export_text,
        "binary_backup": binary_backup,
        "message": message,
        "captured_at": captured_at,
        "device_name": device_name,
        "device_address": device_address,
        "device_model": device_model,
        "device_group": device_group,
    }
    if backup_id is not None:
        values["backup_id"] = backup_id
    return enqueue_backups([values], priority=priority)[0]


def enqueue_backups(
    backups: Iterable[BackupPayload | BackupFields],
    *,
    priority: Priority = "normal",
) -> list[BackupResult]:
    """Accept many backups, in their order; one round trip to Redis for up to 500, or 1.5 MB, of them.

    A thread waits for each round trip while the next one is prepared.

    Args:
        backups: `BackupPayload`s, or mappings with the names of `enqueue_backup`'s arguments. All
            are checked before the first is sent.
        priority: of all of them, as for `enqueue_backup`.

    Returns:
        One result per backup, in order.

    Raises:
        InvalidBackup: as for `enqueue_backup`; none was accepted.
        BackupIdConflict, InboxFull: that one was not accepted; others of its round trip and of
            those before may have been.
        BrokerUnavailable, StagingUnavailable: some may have been accepted: repeat the call with
            the same backup_ids.
    """
    high = is_high(priority)
    payloads = [
        backup if isinstance(backup, BackupPayload) else BackupPayload.checked(**backup)
        for backup in backups
    ]
    refuse_suspects(payloads)
    submit_all(list(_chunks(payloads)), high=high)
    return [BackupResult(payload.backup_id) for payload in payloads]


def is_high(priority: str) -> bool:
    """Whether a given priority is the high one.

    Raises:
        InvalidBackup: it is none.
    """
    if priority not in get_args(Priority):
        raise InvalidBackup("priority", "must be normal or high")
    return priority == "high"


def refuse_suspects(payloads: Iterable[BackupPayload]) -> None:
    """Refuse captures that look bad or failed, if CONFKEEP_REJECT_SUSPECT is set.

    Only for what they show by themselves: what they lost is known to who has the history.

    Raises:
        InvalidBackup: names the reason; none was accepted.
    """
    if not get_settings().reject_suspect:
        return
    for payload in payloads:
        for field, reason in (
            ("export_text", why_suspect(payload.export_text, None)),
            ("binary_backup", why_suspect(None, payload.binary_backup)),
        ):
            if reason is not None:
                raise InvalidBackup(field, f"looks bad or failed: {reason}")


def _chunks(payloads: list[BackupPayload]) -> Iterator[list[BackupPayload]]:
    chunk: list[BackupPayload] = []
    size = 0
    for payload in payloads:
        bytes_of_it = len(payload.export_text) + len(payload.binary_backup or b"")
        if chunk and (size + bytes_of_it > _CHUNK_BYTES or len(chunk) == _CHUNK_BACKUPS):
            yield chunk
            chunk, size = [], 0
        chunk.append(payload)
        size += bytes_of_it
    if chunk:
        yield chunk


def submit(
    payloads: Sequence[_Payload], *, reply_to: str | None = None, high: bool = False
) -> list[str]:
    """Stage and accept checked backups.

    Args:
        reply_to: a further result id to store the receipt under.
        high: before other tenants' backups.

    Returns:
        What became of each: `accepted`, `waiting` or `done` (accepted before).

    Raises:
        as `enqueue_backups`.
    """
    call = _Call(reply_to, high=high)
    submissions = call.prepare(payloads)
    return call.finish(submissions, call.accept(submissions))


def submit_all(chunks: Sequence[Sequence[_Payload]], *, high: bool = False) -> None:
    """Submit chunk after chunk, of checked backups; the next one is prepared while the server works on one.

    A chunk is sent after the one before it was accepted whole, which keeps the order of the call.
    """
    if len(chunks) < 2:
        for chunk in chunks:
            submit(chunk, high=high)
        return
    call = _Call(None, high=high)
    sent: tuple[list[Submission], Future[list[Accepted]]] | None = None
    try:
        for chunk in chunks:
            submissions = call.prepare(chunk)
            if sent is not None:
                call.finish(sent[0], sent[1].result())
            sent = submissions, _beside(partial(call.accept, submissions))
        if sent is not None:
            call.finish(sent[0], sent[1].result())
    finally:
        if sent is not None:
            # Even if preparing the next one failed: a repeated call must find this one known.
            wait([sent[1]])


def _beside(run: Callable[[], list[Accepted]]) -> Future[list[Accepted]]:
    """Run it in a new thread, if the process may start one.

    Not in a pool: pools refuse work once the main thread has ended, and others may still enqueue.
    """
    future: Future[list[Accepted]] = Future()

    def settle() -> None:
        try:
            future.set_result(run())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    try:
        threading.Thread(target=settle, name="confkeep-enqueue").start()
    except RuntimeError:
        settle()
    return future


class _Call:
    """The steps of one call, for one chunk of backups after the other."""

    def __init__(self, reply_to: str | None, *, high: bool) -> None:
        self._reply_to = reply_to
        self._high = high
        self._settings = get_settings()
        self._client = get_client(self._settings)
        self._store = staging.of_settings(self._settings, self._client)

    def prepare(self, payloads: Sequence[_Payload]) -> list[Submission]:
        """Hash and deflate the backups and, on a volume, stage them."""
        submissions = []
        for payload in payloads:
            entry = entry_of(payload, self._settings.staging)
            data = None
            if isinstance(payload, BackupPayload):
                contents = Contents(payload.export_text, payload.binary_backup)
                data = self._store.stage(payload.tenant_id, entry, contents)
            submissions.append(Submission(payload.tenant_id, entry, data, self._reply_to))
        return submissions

    def accept(self, submissions: list[Submission]) -> list[Accepted]:
        """Send them to the server."""
        return acceptance.accept(self._client, self._settings, submissions)

    def finish(self, submissions: list[Submission], answers: list[Accepted]) -> list[str]:
        """Wake tenants first whose backups are of high priority, and raise the first refusal."""
        refusal: ConfkeepError | None = None
        waiting: set[str] = set()
        for submission, answer in zip(submissions, answers, strict=True):
            tenant_id, entry = submission.tenant_id, submission.entry
            if answer.outcome in ("accepted", "waiting"):
                waiting.add(tenant_id)
            else:
                self._store.discard(tenant_id, [entry])
                refusal = refusal or refusal_of(answer, tenant_id, entry.backup_id)
        if self._high:
            # They are accepted all the same, and a wake-up without priority is on its way.
            with contextlib.suppress(redis.RedisError):
                wakeups.wake_first(self._client, self._settings, sorted(waiting))
        if refusal is not None:
            raise refusal
        return [answer.outcome for answer in answers]


def refusal_of(answer: Accepted, tenant_id: str, backup_id: str) -> ConfkeepError | None:
    """Why a backup was not accepted; None if it was."""
    waits = waiting_text(answer.entries, answer.bytes)
    match answer.outcome:
        case "conflict":
            return BackupIdConflict(
                "backup_id", f"{backup_id} was accepted before for another device or bytes"
            )
        case "tenant full":
            return InboxFull(f"the inbox of tenant {tenant_id} is full: {waits}")
        case "all full":
            return InboxFull(f"the inboxes are full: {waits} for all tenants")
        case "garbled":
            return receipts.garbled(backup_id)
        case "stuck":
            return OddValue(f"{keys.inbox(tenant_id)} takes no entry")
    return None


def entry_of(payload: _Payload, where: str) -> Entry:
    """The inbox entry of a checked backup; `where` is its staging: `redis` or `volume`."""
    export, binary, captured_at = b"", None, None
    if isinstance(payload, BackupPayload):
        export, binary = payload.export_text, payload.binary_backup
        captured_at = payload.captured_at
    else:
        where = NOWHERE
    return Entry(
        backup_id=payload.backup_id,
        device_id=payload.device_id,
        message=payload.message,
        captured_at=None if captured_at is None else captured_at.isoformat(),
        export_bytes=len(export),
        export_sha256=hashlib.sha256(export).hexdigest(),
        binary_bytes=None if binary is None else len(binary),
        binary_sha256=None if binary is None else hashlib.sha256(binary).hexdigest(),
        staging=where,
        device_name=payload.device_name,
        device_address=payload.device_address,
        device_model=payload.device_model,
        device_group=payload.device_group,
    )
