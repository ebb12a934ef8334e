"""`confkeep enqueue`."""

from __future__ import annotations

import datetime as dt
import time
from typing import IO, Final

import click

from confkeep import BackupPayload, enqueue_backups
from confkeep.errors import InvalidId, InvalidInput, NotInStore, StoreMissing
from confkeep.models import Priority
from confkeep.routeros.script import parse_script
from confkeep.settings import get_settings
from worker.cli import running
from worker.cli.called import device_text, tenant_name
from worker.cli.params import DEVICE, TENANT
from worker.cli.terminal import Terminal, pass_terminal
from worker.cli.waiting import Receipts
from worker.engine import resolver

#: Bytes of a binary that are looked at.
_LOOKED_AT: Final = 16 * 1024
#: What to do about a tenant or a device that nobody knows by that name.
_NEW: Final = (
    "A new tenant or device gets a UUID of your choice, such as `uuidgen` prints; --name says what people "
    "call the device, and `confkeep name` the tenant."
)


@click.command("enqueue")
@click.argument("tenant", type=TENANT)
@click.argument("device", type=DEVICE)
@click.option(
    "--export", required=True, type=click.File("rb"), help="The text export; - is standard input."
)
@click.option("--binary", type=click.File("rb"), help="The binary backup.")
@click.option("-m", "--message", required=True, help="The commit's message.")
@click.option(
    "--backup-id", metavar="UUID", help="The backup's id; the same id is committed only once, ever."
)
@click.option(
    "--captured-at", metavar="DATE", help="When the export was taken: ISO 8601 with a time zone."
)
@click.option("--name", "device_name", metavar="NAME", help="What people call the device.")
@click.option("--address", "device_address", metavar="ADDRESS", help="The device's address.")
@click.option("--model", "device_model", metavar="MODEL", help="The device's model.")
@click.option("--group", "device_group", metavar="GROUP", help="The group that it belongs to.")
@click.option(
    "--priority",
    type=click.Choice(["normal", "high"]),
    default="normal",
    show_default=True,
    help="high: before other tenants' backups; the tenant's own order stays.",
)
@click.option("--wait", is_flag=True, help="Wait for the receipt.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="With --wait: how long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    /,
    tenant: str,
    device: str,
    export: IO[bytes],
    binary: IO[bytes] | None,
    message: str,
    priority: Priority,
    backup_id: str | None,
    captured_at: str | None,
    wait: bool,
    timeout: float,
    as_json: bool,
    **labels: str | None,
) -> None:
    """Hand over one backup of one device.

    Prints the backup_id: from then on the backup is committed exactly once. TENANT and DEVICE are
    UUIDs; those that are in the store already may be given by name or by their first 4 or more
    digits.

    \b
    With --json: {"backup_id"}; with --wait too, the receipt: {"backup_id",
    "tenant_id", "device_id", "sha", "lines_added", "lines_removed", "unchanged",
    "export_changed", "committed_at", "suspect", "device_name", "tenant_name",
    "warnings"}.

    \b
    Examples:
      confkeep enqueue acme core1 --export core1.rsc -m nightly
      confkeep enqueue acme core1 --export core1.rsc -m now --priority high
      confkeep enqueue acme $DEVICE_ID --name core2 --export core2.rsc -m first
    """
    running.adopt(terminal)
    tenant_id, device_id = _ids(tenant, device)
    binary_backup = None if binary is None else binary.read()
    if binary_backup is not None and _is_export(binary_backup):
        terminal.note(
            "warning: --binary is a text export, and no binary backup; it is kept as it is"
        )
    values = {
        "tenant_id": tenant_id,
        "device_id": device_id,
        "export_text": export.read(),
        "binary_backup": binary_backup,
        "message": message,
        "captured_at": None if captured_at is None else _date(captured_at),
        **labels,
    }
    if backup_id is not None:
        values["backup_id"] = backup_id
    payload = BackupPayload.checked(**values)
    enqueue_backups([payload], priority=priority)
    if not wait:
        if as_json:
            terminal.json({"backup_id": payload.backup_id})
        else:
            terminal.line(payload.backup_id)
        return
    receipts = Receipts(silence_s=timeout)
    receipts.expect([payload.backup_id])
    started = time.monotonic()
    (answer,) = receipts.wait()
    if answer.receipt is None:
        assert answer.error is not None
        raise answer.error
    if as_json:
        receipt_json = answer.receipt.model_dump(mode="json")
        terminal.json({**receipt_json, "tenant_name": tenant_name(tenant_id)})
        return
    receipt = answer.receipt
    changes = (
        "unchanged"
        if receipt.unchanged
        else f"+{receipt.lines_added} -{receipt.lines_removed} lines"
    )
    whose = device_text(tenant_id, receipt.device_id, receipt.device_name)
    terminal.line(f"{payload.backup_id} is commit {receipt.sha} of {whose}: {changes}")
    for warning in receipt.warnings:
        terminal.note(f"warning: {warning}")
    terminal.note(f"after {time.monotonic() - started:.2f} s")


def _ids(tenant: str, device: str) -> tuple[str, str]:
    store = get_settings().git_store_path
    try:
        tenant_id = resolver.find_tenant(store, tenant).id
        return tenant_id, resolver.find_device_of(store, tenant_id, device).id
    except InvalidId as error:
        error.hint = f"{error.hint} {_NEW}"
        raise
    except (StoreMissing, NotInStore):
        # A tenant without a repository has no devices yet.
        raise InvalidInput(
            "DEVICE", "must be a whole UUID: the tenant has no devices yet", hint=_NEW
        ) from None


def _is_export(binary: bytes) -> bool:
    """Whether it is text of which RouterOS writes most lines. Other makers' files may be any."""
    start = binary[:_LOOKED_AT]
    return b"\0" not in start and parse_script(start).unrecognised_share < 0.5


def _date(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("--captured-at", "must be a date such as 2026-09-30T10:00:00Z") from None
