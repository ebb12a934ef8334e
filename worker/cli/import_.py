"""`confkeep import`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import click

from worker.cli import exports_folder, running
from worker.cli.exports_folder import Capture, ExportsFolder, devices_by_tenant
from worker.cli.sending import Sender, Sent
from worker.cli.terminal import Terminal, count_text, date_text, pass_terminal, printable
from worker.cli.versions import backup_ids_of
from worker.cli.waiting import SILENCE_S
from worker.errors import NotInStore, PoisonedBackup
from worker.settings import get_settings
from worker.store.repository import open_repository, repository_path

#: Most refused files that are listed.
_LISTED: Final = 20
#: Most ids made from names that are listed.
_IDS_LISTED: Final = 50


@click.command("import")
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--order",
    type=click.Choice(["auto", *exports_folder.ORDERS]),
    default="auto",
    show_default=True,
    help="What tells the older export of a device from the newer.",
)
@click.option("--tenant", help="DIR holds DEVICE/*.rsc, all of this tenant: a UUID or a name.")
@click.option("--dry-run", is_flag=True, help="Only say what would be imported.")
@click.option("--strict", is_flag=True, help="End with status 1 when a file was refused.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=SILENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up when no worker answers for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@pass_terminal
@click.pass_context
def command(
    ctx: click.Context,
    terminal: Terminal,
    folder: Path,
    order: str,
    tenant: str | None,
    dry_run: bool,
    strict: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Hand over a folder of exports, oldest first.

    The exports are DIR/TENANT/DEVICE/*.rsc; a file of the same name with .backup instead is
    its binary. Folders are named by UUIDs, or by any names: then ids are made from the names, the
    same ones each time, and printed.

    A device's exports are taken in the order of the dates in their names when all have one, else
    of their numbers when all names are numbers, else of the files' times. The commit's author
    date is the date in the name, else in the export's header, else the file's time, but not later
    than that of the next.

    Importing again imports what is new: the backup_id is made from device, file name and bytes.
    Blank and too large files are refused and listed; the others are imported.

    \b
    With --json: {"found", "imported", "already_there", "unchanged", "refused": [{"path",
    "reason"}], "dead_letters": [{"path", "reason"}], "ids": {name: id}, "tenants": {id: devices}}
    """
    running.adopt(terminal)
    found = exports_folder.scan(folder, order=None if order == "auto" else order, tenant=tenant)
    if dry_run:
        _print_plan(terminal, found, as_json)
        return
    with terminal.progress("importing", len(found.captures)) as advance:
        sender = Sender(_in_git(found.captures), advance, silence_s=timeout)
        sent = sender.send(found.captures)
    if as_json:
        terminal.json(_summary_json(found, sent))
    else:
        _print_summary(terminal, found, sent)
    if sent.dead:
        ctx.exit(PoisonedBackup.exit_code)
    if strict and sent.refused:
        ctx.exit(1)


def _in_git(captures: Sequence[Capture]) -> set[str]:
    """The backup_ids in the repositories that are on this machine."""
    store = get_settings().git_store_path
    ids: set[str] = set()
    for tenant_id in {capture.tenant_id for capture in captures}:
        try:
            ids |= backup_ids_of(open_repository(repository_path(store, tenant_id)))
        except NotInStore:
            continue
    return ids


def _print_plan(terminal: Terminal, found: ExportsFolder, as_json: bool) -> None:
    tenants = devices_by_tenant(found.captures)
    if as_json:
        terminal.json(_summary_json(found, None))
        return
    dates: dict[str, list[Capture]] = {}
    for capture in found.captures:
        dates.setdefault(capture.device_id, []).append(capture)
    terminal.table(
        ["device", "exports", "binaries", "first (UTC)", "last (UTC)"],
        [
            [
                device_id,
                str(len(captures)),
                str(sum(capture.binary_path is not None for capture in captures)),
                date_text(captures[0].captured_at)[:10],
                date_text(captures[-1].captured_at)[:10],
            ]
            for device_id, captures in dates.items()
        ],
        right="exports binaries",
    )
    _print_ids(terminal, found)
    terminal.line(
        f"Would import {count_text(len(found.captures), 'backup')} of "
        f"{count_text(len(dates), 'device')} of {count_text(len(tenants), 'tenant')}."
    )


def _print_summary(terminal: Terminal, found: ExportsFolder, sent: Sent) -> None:
    _print_ids(terminal, found)
    terminal.line(
        f"{count_text(sent.imported, 'backup')} imported, {sent.already_there} already there, "
        f"{len(sent.refused)} refused"
        + (f", {count_text(len(sent.dead), 'dead letter')}" if sent.dead else "")
        + "."
    )
    for what, files in (("refused", sent.refused), ("dead letter", sent.dead)):
        for path, reason in files[:_LISTED]:
            terminal.line(f"  {what}: {printable(str(path))}: {printable(reason)}", style="yellow")
        if len(files) > _LISTED:
            terminal.line(f"  and {len(files) - _LISTED} more; --json lists all", style="dim")


def _print_ids(terminal: Terminal, found: ExportsFolder) -> None:
    if not found.named_ids:
        return
    terminal.line("Ids made from names:", style="bold")
    for name, made in islice(found.named_ids.items(), _IDS_LISTED):
        indent = "    " if "/" in name else "  "
        terminal.line(f"{indent}{made}  {printable(name)}")
    if len(found.named_ids) > _IDS_LISTED:
        more = len(found.named_ids) - _IDS_LISTED
        terminal.line(f"  and {more} more; --json lists all", style="dim")


def _summary_json(found: ExportsFolder, sent: Sent | None) -> dict[str, object]:
    tenants = devices_by_tenant(found.captures)
    sent = sent or Sent()
    return {
        "found": len(found.captures),
        "imported": sent.imported,
        "already_there": sent.already_there,
        "unchanged": sent.unchanged,
        "refused": [{"path": str(path), "reason": reason} for path, reason in sent.refused],
        "dead_letters": [{"path": str(path), "reason": reason} for path, reason in sent.dead],
        "ids": found.named_ids,
        "tenants": {tenant_id: len(devices) for tenant_id, devices in tenants.items()},
    }
