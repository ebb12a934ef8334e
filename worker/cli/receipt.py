"""`confkeep receipt`."""

from __future__ import annotations

from typing import Final

import click

from confkeep.errors import NoReceipt, PoisonedBackup
from confkeep.ids import checked_uuid
from confkeep.models import Receipt
from worker.cli import running
from worker.cli.called import device_text, tenant_name, tenant_text
from worker.cli.terminal import Terminal, date_text, pass_terminal, printable
from worker.engine.receipt import Answer, find_receipt, next_step
from worker.engine.resolver import find_tenant

#: What the states of a record mean to a person.
_MEANING: Final = {
    "PENDING": "waits in its tenant's inbox",
    "RETRY": "waits: its tenant's last commit failed and is tried again",
    "FAILURE": "cannot be committed",
    "SUCCESS": "is in git",
}


@click.command("receipt")
@click.argument("backup_id")
@click.option("--tenant", help="Look only in this tenant's repository.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, backup_id: str, tenant: str | None, as_json: bool) -> None:
    """Tell what became of a backup.

    Asks Redis first, which keeps the answer for 8 days (CONFKEEP_RECEIPT_TTL_S), and then the
    repositories, which keep it for ever. Works without a server when the backup is in git.

    \b
    Ends with
      0   the backup is in git
      2   nobody knows the id
      16  it was accepted and waits
      20, 21, 22  it became a dead letter
      24  it waits without an entry, so nobody commits it: hand it over again

    \b
    With --json:
      {"backup_id", "state": "PENDING", "RETRY", "SUCCESS" or "FAILURE",
       "source": "redis" or "git",
       "reason": why it waits or failed, or null,
       "next_step": what to do about a commit that failed, or null,
       "tenant_name": null without a receipt, or where the tenant has none,
       "receipt": null or {"backup_id", "tenant_id", "device_id", "device_name",
                           "sha", "lines_added", "lines_removed", "unchanged",
                           "export_changed", "committed_at", "suspect",
                           "warnings"}}

    \b
    Examples:
      confkeep receipt $BACKUP_ID
      confkeep receipt $BACKUP_ID --tenant acme --json
    """
    settings = running.settings(terminal)
    backup_id = checked_uuid("BACKUP_ID", backup_id)
    tenant_id = None if tenant is None else find_tenant(settings.git_store_path, tenant).id
    answer = find_receipt(
        settings, backup_id, tenant_id, lambda text: terminal.note(printable(text))
    )
    if as_json:
        terminal.json(
            {
                "backup_id": backup_id,
                "state": answer.state,
                "source": answer.source,
                "reason": None if answer.error is None else str(answer.error),
                "next_step": next_step(answer, settings),
                "tenant_name": answer.receipt and tenant_name(answer.receipt["tenant_id"]),
                "receipt": answer.receipt,
            }
        )
    else:
        _print(terminal, backup_id, answer, next_step(answer, settings))
    if answer.state == "FAILURE":
        raise answer.error or PoisonedBackup("no reason is known")
    if answer.receipt is None:
        raise NoReceipt(f"backup {backup_id} {_MEANING[answer.state]}")


def _print(terminal: Terminal, backup_id: str, answer: Answer, step: str | None) -> None:
    style = {"SUCCESS": "green", "FAILURE": "red"}.get(answer.state, "yellow")
    terminal.line(f"{backup_id} {_MEANING[answer.state]}", style=style)
    if answer.error is not None and answer.state == "RETRY":
        terminal.line(f"  reason     {printable(str(answer.error))}")
        terminal.line(f"  next step  {printable(step or '')}")
    if answer.receipt is None:
        return
    receipt = Receipt.of(dict(answer.receipt))
    changes = "both files as before"
    if not receipt.unchanged:
        kind = "the configuration changed" if receipt.export_changed else "same configuration"
        changes = f"+{receipt.lines_added} -{receipt.lines_removed} lines, {kind}"
    for name, value in (
        ("commit", receipt.sha),
        ("tenant", tenant_text(receipt.tenant_id)),
        ("device", device_text(receipt.tenant_id, receipt.device_id, receipt.device_name)),
        ("committed", f"{date_text(receipt.committed_at)} UTC"),
        ("changes", changes),
    ):
        terminal.line(f"  {name:<10} {printable(value)}")
    for warning in receipt.warnings:
        terminal.note(f"warning: {printable(warning)}")
