"""Accepts what any Celery client sent to `backups.receive`."""

from __future__ import annotations

from typing import Any

from confkeep import enqueue, sign
from confkeep.broker.connections import get_client
from confkeep.models import (
    MAX_BINARY_BYTES,
    MAX_EXPORT_BYTES,
    BackupPayload,
    ReceivedBackup,
    StagedReference,
    decode_base64,
)
from confkeep.queue import receipts, staging
from confkeep.queue.staging import Staging
from confkeep.settings import get_settings
from worker.observe import measure, metrics


def accept(task_id: str, backup: dict[str, Any]) -> None:
    """Check, stage and accept what the client sent; a repetition is accepted once.

    Raises:
        InvalidBackup: names the field and its limit; nothing is left behind.
        QueueError: Redis or the volume refused; the same call may succeed later.
    """
    settings = get_settings()
    client = get_client(settings)
    store = staging.of_settings(settings, client)
    received = ReceivedBackup.checked(**backup)
    payload = BackupPayload.checked(
        tenant_id=received.tenant_id,
        device_id=received.device_id,
        export_text=_export(received, store),
        binary_backup=_binary(received, store),
        message=received.message,
        # The task's id names the backup: a redelivered message is the same backup.
        backup_id=received.backup_id or task_id,
        captured_at=received.captured_at,
        device_name=received.device_name,
        device_address=received.device_address,
        device_model=received.device_model,
        device_group=received.device_group,
    )
    sign.check_receive(settings, payload, backup)
    enqueue.refuse_suspects([payload])
    [outcome] = enqueue.submit([payload], reply_to=task_id)
    if outcome == "accepted":
        measure.count(metrics.WORKER_ENQUEUED)
    if outcome == "done" and task_id != payload.backup_id:
        receipts.copy(client, payload.backup_id, task_id, settings.receipt_ttl_s)
    for reference in (received.export_staged, received.binary_staged):
        if reference is not None:
            store.discard_handoff(received.tenant_id, reference.id)


def _export(received: ReceivedBackup, store: Staging) -> bytes | str:
    if received.export_staged is not None:
        return _staged("export_staged", received.tenant_id, received.export_staged, store)
    if received.export_base64 is not None:
        return decode_base64("export_base64", received.export_base64, MAX_EXPORT_BYTES)
    assert received.export_text is not None
    return received.export_text


def _binary(received: ReceivedBackup, store: Staging) -> bytes | None:
    if received.binary_staged is not None:
        return _staged("binary_staged", received.tenant_id, received.binary_staged, store)
    if received.binary_base64 is not None:
        return decode_base64("binary_base64", received.binary_base64, MAX_BINARY_BYTES)
    return None


def _staged(field: str, tenant_id: str, reference: StagedReference, store: Staging) -> bytes:
    data = store.read_handoff(tenant_id, reference.id)
    return staging.checked_handoff(field, data, reference.size_bytes, reference.sha256)
