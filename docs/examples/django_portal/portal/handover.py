"""From a capture in the database to a receipt in the database."""

import datetime as dt
import uuid

from django.db import transaction

from confkeep import (
    BackupResult,
    BrokerUnavailable,
    InboxFull,
    InvalidBackup,
    StagingUnavailable,
    enqueue_backup,
)

from .models import Capture, Device

#: What the portal keeps of a receipt.
KEPT = ("sha", "lines_added", "lines_removed")


def save_capture(device: Device, polled_at: dt.datetime, export: str, binary: bytes | None) -> None:
    """Keep a capture in the database, and enqueue it once the transaction is committed.

    Not before: a transaction that is rolled back must leave no backup behind.
    """
    with transaction.atomic():
        capture, _ = Capture.objects.get_or_create(
            id=uuid.uuid5(device.id, polled_at.isoformat()),
            defaults={
                "device": device,
                "polled_at": polled_at,
                "export": export,
                "binary": binary,
            },
        )
        transaction.on_commit(lambda: hand_over(capture))


def hand_over(capture: Capture) -> None:
    """Enqueue a capture. What fails now is tried again by `resend`."""
    if capture.sha or capture.problem:
        return
    try:
        enqueue_backup(
            capture.device.tenant_id,
            capture.device_id,
            capture.export,
            None if capture.binary is None else bytes(capture.binary),
            f"poll of {capture.device.name}",
            backup_id=capture.id,
            captured_at=capture.polled_at,
        )
    except (BrokerUnavailable, InboxFull, StagingUnavailable):
        return  # The row still has the bytes, and the same id makes the repetition safe.
    except InvalidBackup as error:
        finish(capture, problem=str(error))
    else:
        capture.accepted = True
        capture.save()


def resend(*, accepted: bool = False) -> None:
    """Enqueue what was captured and is not accepted: the process died, or the broker was away.

    With `accepted` also what was accepted and has no receipt: the broker lost its data.
    """
    unfinished = Capture.objects.filter(sha="", problem="")
    if not accepted:
        unfinished = unfinished.filter(accepted=False)
    for capture in unfinished.select_related("device").order_by("polled_at"):
        hand_over(capture)


def finish(capture: Capture, **known: object) -> None:
    """Write down how a capture ended, and let go of its bytes."""
    for name, value in {**known, "export": None, "binary": None}.items():
        setattr(capture, name, value)
    capture.save()


def collect_receipts() -> int:
    """Write into the database what became of accepted captures; how many still wait."""
    waiting = 0
    for capture in Capture.objects.filter(accepted=True, sha="", problem=""):
        result = BackupResult(str(capture.id))
        if result.successful():
            receipt = result.result
            finish(capture, **{name: receipt[name] for name in KEPT})
        elif result.failed():  # a dead letter
            finish(capture, problem=str(result.result))
        else:
            waiting += 1
    return waiting
