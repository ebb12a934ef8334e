"""Read histories, files and receipts by asking the workers."""

from __future__ import annotations

import base64
import uuid
from typing import Any, Final

from celery.exceptions import TimeoutError as NotAnswered
from celery.states import FAILURE
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from confkeep.app import app
from confkeep.broker import keys
from confkeep.broker.broker_faults import explain
from confkeep.broker.connections import broker_errors, get_client
from confkeep.errors import ConfkeepError, NoReceipt, UnknownBackup
from confkeep.ids import checked_uuid
from confkeep.models import Device, HistoryEntry, Receipt
from confkeep.queue import answers, receipts
from confkeep.results import BackupResult
from confkeep.settings import get_settings

#: Seconds to wait for an answer by default.
TIMEOUT_S: Final = 30.0


def history(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    limit: int = 100,
    *,
    timeout: float = TIMEOUT_S,
) -> list[HistoryEntry]:
    """The newest versions of a device, newest first.

    Args:
        limit: most versions.
        timeout: seconds to wait for a worker.

    Raises:
        InvalidId: an id is no UUID.
        NotInStore: the tenant has no repository.
        NoReceipt: no worker answered in time.
        BrokerUnavailable: Redis did not answer.
    """
    device_id = checked_uuid("device_id", device_id)
    found = _ask("backups.history", tenant_id, device_id, limit, timeout=timeout)
    return [HistoryEntry.of(entry) for entry in found]


def read_file(
    tenant_id: str | uuid.UUID,
    commit_sha: str,
    device_id: str | uuid.UUID,
    filename: str,
    *,
    timeout: float = TIMEOUT_S,
) -> bytes:
    """The bytes of a device's file in a commit.

    Args:
        commit_sha: the commit's id, or its first four or more digits.
        filename: `export.rsc` or `backup.bin`.
        timeout: seconds to wait for a worker.

    Raises:
        InvalidId: an argument is malformed.
        NotInStore: no such tenant, commit, device or file.
        RemovedByRetention: retention or an erasure removed it.
        NoReceipt, BrokerUnavailable: as for `history`.
    """
    device_id = checked_uuid("device_id", device_id)
    text = _ask("backups.read_file", tenant_id, commit_sha, device_id, filename, timeout=timeout)
    return base64.b64decode(text)


def diff(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    old_sha: str,
    new_sha: str,
    *,
    timeout: float = TIMEOUT_S,
) -> str:
    """The unified difference between a device's exports in two commits.

    Raises:
        as `read_file`.
    """
    device_id = checked_uuid("device_id", device_id)
    return str(_ask("backups.diff", tenant_id, device_id, old_sha, new_sha, timeout=timeout))


def devices(tenant_id: str | uuid.UUID, *, timeout: float = TIMEOUT_S) -> list[str]:
    """The ids of a tenant's devices in its newest commit, sorted.

    Raises:
        as `history`.
    """
    return [str(device) for device in _ask("backups.devices", tenant_id, timeout=timeout)]


def directory(tenant_id: str | uuid.UUID, *, timeout: float = TIMEOUT_S) -> list[Device]:
    """A tenant's directory: its devices with their labels, the last changed one first.

    Raises:
        as `history`.
    """
    return [Device.of(found) for found in _ask("backups.directory", tenant_id, timeout=timeout)]


def receipt_of(backup_id: str | uuid.UUID) -> Receipt | None:
    """The receipt of a backup, without waiting; None if it waits to be committed.

    Redis keeps receipts for 8 days (CONFKEEP_RECEIPT_TTL_S).

    Raises:
        InvalidId: `backup_id` is no UUID.
        UnknownBackup: Redis knows no such backup. `confkeep receipt` looks in git too.
        PoisonedBackup: it became a dead letter.
        BrokerUnavailable: Redis did not answer.
    """
    answer = _find(checked_uuid("backup_id", backup_id))
    if answer is not None and answer.error is not None:
        raise answer.error
    return None if answer is None else answer.receipt


def _find(backup_id: str) -> answers.Answer | None:
    """How a backup ended; None if it waits."""
    client = get_client()
    found = answers.read(client, [backup_id])
    if found:
        return found[0]
    if receipts.read(client, backup_id) is None:
        raise UnknownBackup("backup_id", f"{backup_id} is not known to Redis")
    return None


def _ask(task: str, tenant_id: str | uuid.UUID, *arguments: Any, timeout: float) -> Any:
    """Run a task where the tenant's repository is, before others' bulk."""
    tenant_id = checked_uuid("tenant_id", tenant_id)
    queue = keys.queue_of(tenant_id, get_settings().shards, high=True)
    return ask(task, queue, tenant_id, *arguments, timeout=timeout)


def ask(task: str, queue: str, *arguments: Any, timeout: float) -> Any:
    """Run a task on a queue of the workers'.

    Raises:
        NoReceipt: no worker answered in time.
        BrokerUnavailable: Redis did not answer.
        as the task.
    """
    # Celery subscribes to the answer before it sends, and tells of a server that is away by a RuntimeError.
    with broker_errors():
        get_client().ping()
    try:
        # Nobody reads an answer that comes later.
        sent = app.send_task(
            task,
            args=arguments,
            queue=Queue(queue),  # type: ignore[no-untyped-call]
            expires=timeout,
        )
    except OperationalError as error:
        raise explain(error) from error
    try:
        return BackupResult(sent.id).get(timeout)
    except NotAnswered:
        raise NoReceipt(f"no worker answered for {timeout:g} s") from None
    except ConfkeepError:
        # Celery leaves out the error's own hint.
        record = receipts.read(get_client(), sent.id) or {}
        if record.get("status") != FAILURE:
            raise
        raise receipts.error_of(record.get("result")) from None
