"""`confkeep history`."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from confkeep.settings import get_settings
from worker.cli.called import tenant_json, tenant_text
from worker.cli.each import Failures
from worker.cli.params import DEVICE, TENANT
from worker.cli.terminal import (
    Terminal,
    count_text,
    date_text,
    first_line,
    pass_terminal,
    printable,
)
from worker.engine.directory import Called, Device, directory_of
from worker.engine.moments import moment_of
from worker.engine.resolver import find_device, open_tenant
from worker.engine.versions import Row, Wanted, last_versions, rows_of
from worker.observe import states
from worker.store.repository.backup import Detail
from worker.store.repository.reader import devices_of
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    require_store,
    tenants_of,
)

#: Digits of a commit id in tables; unambiguous in all stores we have seen.
SHORT: Final = 10


@click.command("history")
@click.argument("tenant", type=TENANT, required=False)
@click.argument("device", type=DEVICE, required=False)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Most versions to list; 0 lists all.",
)
@click.option(
    "--before",
    metavar="COMMIT|DATE",
    help="Only versions older than this commit, or captured before this date, such as 2026-09-30 or "
    "2026-09-30T10:00 (UTC).",
)
@click.option(
    "--since", metavar="WHEN", help="Only versions captured since then: 2026-10-03, '2 days ago'."
)
@click.option(
    "--until",
    metavar="WHEN",
    help="Only versions captured until then; a date includes its whole day.",
)
@click.option(
    "--config-changes-only",
    is_flag=True,
    help="Only versions whose configuration changed, not just the export's date or the binary.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str | None,
    device: str | None,
    limit: int,
    before: str | None,
    since: str | None,
    until: str | None,
    config_changes_only: bool,
    as_json: bool,
) -> None:
    """List the versions of a device, or the devices of a tenant.

    Without TENANT: the tenants of the store. The newest version comes first. TENANT and DEVICE are
    names, UUIDs, or the first 4 or more digits of a UUID. A version is a commit that changed one
    of the device's two files; `captured` is when the export was taken, `+` and `-` count the lines
    added to it and removed from it. Where dates are given, the table tells from when to when each
    version was valid.

    \b
    With --json:
      {"tenant_id", "tenant_name", "device_id", "device_name",
       "more": whether older versions were left out,
       "versions": [{"sha", "message", "captured_at",
                     "valid_until": when the next was captured, or null,
                     "committed_at", "backup_id", "lines_added", "lines_removed",
                     "export_changed", "export_bytes", "binary_bytes", "removed",
                     "suspect": why the capture looks bad or failed, or null}]}
    and without DEVICE:
      {"tenant_id", "tenant_name",
       "devices": [{"device_id", "device_name", "versions", "sha", "message",
                    "committed_at"}]}
    and without TENANT:
      {"tenants": [{"tenant_id", "tenant_name", "devices": how many}],
       "errors": [{"tenant_id", "tenant_name", "error": why it cannot be read}]}

    \b
    Examples:
      confkeep history acme
      confkeep history acme core1 --config-changes-only
      confkeep history acme core1 --since '2 weeks ago'
    """
    if tenant is None:
        _list_tenants(terminal, get_settings().git_store_path, as_json)
        return
    found, repository = open_tenant(get_settings().git_store_path, tenant)
    if device is None:
        _list_devices(terminal, found, directory_of(repository), as_json)
        return
    called = find_device(repository, device)
    wanted = Wanted(limit=limit + 1 if limit else None, config_changes_only=config_changes_only)
    now = dt.datetime.now(dt.UTC)
    if before is not None and re.fullmatch(r"[0-9A-Fa-f]{4,40}", before):
        wanted = replace(wanted, before=before)
    elif before is not None:
        start = moment_of("--before", before, now, end_of_day=False)
        wanted = replace(wanted, captured_before=start)
    if until is not None:
        if before is not None:
            raise click.UsageError("--until and --before are two ways to say the same.")
        end = moment_of("--until", until, now, end_of_day=True)
        wanted = replace(wanted, captured_before=end + dt.timedelta(microseconds=1))
    if since is not None:
        start = moment_of("--since", since, now, end_of_day=False)
        wanted = replace(wanted, captured_since=start)
    _list_versions(terminal, found, repository, called, wanted, as_json)


def _list_tenants(terminal: Terminal, store: Path, as_json: bool) -> None:
    require_store(store)
    paths = {tenant_id: repository_path(store, tenant_id) for tenant_id in tenants_of(store)}
    failures = Failures(terminal, paths)
    counts = dict(failures.each(lambda _tenant_id, path: len(devices_of(open_repository(path)))))
    if as_json:
        tenants = [{**tenant_json(tenant), "devices": count} for tenant, count in counts.items()]
        terminal.json({"tenants": tenants, "errors": failures.to_json()})
    elif counts:
        rows = [[tenant_text(tenant), str(count)] for tenant, count in counts.items()]
        terminal.table(["tenant", "devices"], rows, right="devices")
    elif not paths:
        terminal.line(f"No tenant has a repository in {store}.")
    failures.end()


def _list_versions(
    terminal: Terminal,
    tenant: Called,
    repository: TenantRepository,
    device: Called,
    wanted: Wanted,
    as_json: bool,
) -> None:
    """Print a device's versions; `wanted` asks for one more than is printed, to see whether there are more."""
    rows = rows_of(repository, device.id, wanted)
    if not rows:
        last_versions(repository, device.id, 1)
        if not as_json:
            terminal.note("The device has versions, but none of those asked for.")
            return
    limit = None if wanted.limit is None else wanted.limit - 1
    more = limit is not None and len(rows) > limit
    rows = rows[:limit]
    if as_json:
        versions = [_version_json(row) for row in rows]
        terminal.json(
            {
                **tenant.json("tenant"),
                **device.json("device"),
                "more": more,
                "versions": versions,
            }
        )
        return
    if device.name is not None:
        terminal.note(printable(f"device {device} of tenant {tenant}"))
    validity = wanted.captured_since is not None or wanted.captured_before is not None
    print_versions(terminal, rows, validity=validity)
    if more and limit is not None:
        terminal.note(
            f"There are older versions; `--limit 0` lists all, `--limit {limit * 5}` more."
        )


def print_versions(terminal: Terminal, rows: list[Row], *, validity: bool = False) -> None:
    """Print the table of a device's versions, and with `validity` until when each was valid."""
    times = ["valid from (UTC)", "until (UTC)"] if validity else ["captured (UTC)"]
    terminal.table(
        ["commit", *times, "changed", "+", "-", "message"],
        [
            [
                Text(row.version.sha[:SHORT], style="yellow"),
                date_text(row.version.captured_at),
                *([_until(row)] if validity else []),
                _changed(row.detail),
                Text(str(row.detail.lines_added), style="green"),
                Text(str(row.detail.lines_removed), style="red"),
                _message_of(row),
            ]
            for row in rows
        ],
        right="+ -",
    )


def _until(row: Row) -> str:
    return "now" if row.valid_until is None else date_text(row.valid_until)


def _changed(detail: Detail) -> Text:
    """Whether the configuration changed, only volatile lines of the export, or only the binary."""
    if detail.export_changed:
        return Text("config", style="bold")
    lines = detail.lines_added or detail.lines_removed
    return Text("header" if lines else "binary", style="dim")


def _message_of(row: Row) -> Text:
    text = Text(first_line(row.version.message))
    if row.detail.suspect is not None:
        text = Text.assemble(
            (f"[{states.SUSPECT.word}: {row.detail.suspect}] ", states.SUSPECT.style), text
        )
    return text


def _version_json(row: Row) -> dict[str, object]:
    return {
        "sha": row.version.sha,
        "message": row.version.message,
        "captured_at": row.version.captured_at,
        "valid_until": row.valid_until,
        "committed_at": row.version.committed_at,
        "backup_id": row.version.backup_id,
        "removed": row.removed,
        **asdict(row.detail),
    }


def _list_devices(terminal: Terminal, tenant: Called, devices: list[Device], as_json: bool) -> None:
    if as_json:
        found = [
            {
                **device.called.json("device"),
                "versions": device.versions,
                "sha": device.last.sha,
                "message": device.last.message,
                "committed_at": device.last.committed_at,
            }
            for device in devices
        ]
        terminal.json({**tenant.json("tenant"), "devices": found})
        return
    if not devices:
        terminal.line(f"Tenant {printable(str(tenant))} has no devices.")
        return
    terminal.table(
        ["device", "versions", "last change (UTC)", "message"],
        [
            [
                Text(printable(str(device.called)), style="cyan"),
                str(device.versions),
                date_text(device.last.committed_at),
                first_line(device.last.message),
            ]
            for device in devices
        ],
        right="versions",
    )
    terminal.note(f"{count_text(len(devices), 'device')} of tenant {printable(str(tenant))}")
