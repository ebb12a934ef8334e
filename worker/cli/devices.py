"""`confkeep devices`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import click
from rich.text import Text

from confkeep.settings import get_settings
from worker.cli.params import TENANT, Age
from worker.cli.terminal import (
    Terminal,
    age_text,
    count_text,
    date_text,
    pass_terminal,
    printable,
)
from worker.engine.directory import Device, directory_of, last_changes, suspects
from worker.engine.resolver import open_tenant

#: What `--stale` alone gives: the age that the settings say. No age that is typed is below zero.
_OF_SETTINGS: Final = -1.0

#: When the configurations of devices last changed, by id.
Changes = Mapping[str, dt.datetime]


@click.command("devices")
@click.argument("tenant", type=TENANT)
@click.option("--group", metavar="GROUP", help="Only devices of this group.")
@click.option(
    "--stale",
    "stale_s",
    type=Age(),
    is_flag=False,
    flag_value=_OF_SETTINGS,
    metavar="[AGE]",
    help="Only those whose newest backup is older than this, such as 90m or 2d; without AGE: "
    "CONFKEEP_STALE_HOURS.",
)
@click.option(
    "--changed-since",
    "changed_s",
    type=Age(),
    metavar="AGE",
    help="Only those whose configuration changed within this time, such as 90m or 2d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str,
    group: str | None,
    stale_s: float | None,
    changed_s: float | None,
    as_json: bool,
) -> None:
    """List a tenant's devices with what people call them.

    The device whose configuration changed last comes first; a new date in an export is no such
    change. A name in brackets comes from the device's export; `confkeep name` gives it a label. TENANT is a name, a UUID, or a UUID's first 4 or more digits.

    \b
    With --json:
      {"tenant_id", "tenant_name",
       "devices": [{"device_id", "name", "own_name": the one in its export,
                    "address", "model", "group", "versions", "sha", "message",
                    "changed_at": date of the newest version,
                    "export_changed_at": when its configuration last changed,
                    null if that is not known, "last_backup_at",
                    "suspect": why the newest version is; null if it is not, or
                               if that is not known}]}

    \b
    Examples:
      confkeep devices acme --group core
      confkeep devices acme --changed-since 2d
      confkeep devices acme --stale
    """
    settings = get_settings()
    if stale_s == _OF_SETTINGS:
        stale_s = settings.stale_after_s
    found, repository = open_tenant(settings.git_store_path, tenant)
    now = dt.datetime.now(dt.UTC)
    changes = last_changes(repository)

    def changed_at(device: Device) -> dt.datetime:
        # Where it is not known, it was with the newest version or earlier.
        return changes.get(device.called.id, device.last.committed_at)

    devices = [
        device
        for device in sorted(directory_of(repository), key=changed_at, reverse=True)
        if (group is None or device.called.labels.group == group)
        and (stale_s is None or _age_s(device.seen_at, now) > stale_s)
        and (changed_s is None or _age_s(changed_at(device), now) <= changed_s)
    ]
    if as_json:
        bad = suspects(repository)
        listed = [{**_to_json(one, changes), "suspect": bad.get(one.called.id)} for one in devices]
        terminal.json({**found.json("tenant"), "devices": listed})
        return
    if devices:
        _print_table(terminal, devices, changes, now)
    terminal.note(f"{count_text(len(devices), 'device')} of tenant {printable(str(found))}")


def _to_json(device: Device, changes: Changes) -> dict[str, object]:
    return {
        "device_id": device.called.id,
        **asdict(device.called.labels),
        "name": device.called.name,
        "own_name": device.called.own_name,
        "versions": device.versions,
        "sha": device.last.sha,
        "message": device.last.message,
        "changed_at": device.last.committed_at,
        "export_changed_at": changes.get(device.called.id),
        "last_backup_at": device.seen_at,
    }


def _age_s(when: dt.datetime | None, now: dt.datetime) -> float:
    return float("inf") if when is None else (now - when).total_seconds()


def _print_table(
    terminal: Terminal, devices: list[Device], changes: Changes, now: dt.datetime
) -> None:
    """Print the devices; a column of labels appears if some device has such a label."""
    labels = [
        label
        for label in ("group", "address", "model")
        if any(getattr(device.called.labels, label) for device in devices)
    ]
    rows: list[list[str | Text]] = [
        [
            _name(device),
            device.called.short,
            str(device.versions),
            _last_change(device, changes),
            "" if device.seen_at is None else age_text(_age_s(device.seen_at, now)),
            *(printable(getattr(device.called.labels, label) or "") for label in labels),
        ]
        for device in devices
    ]
    titles = ["device", "id", "versions", "last change (UTC)", "seen ago", *labels]
    terminal.table(titles, rows, right="versions")


def _last_change(device: Device, changes: Changes) -> str:
    known = changes.get(device.called.id)
    return date_text(known) if known else f"{date_text(device.last.committed_at)} or earlier"


def _name(device: Device) -> Text:
    labels = device.called.labels
    if labels.name:
        return Text(printable(labels.name), style="cyan")
    return Text(f"({printable(device.called.own_name)})" if device.called.own_name else "")
