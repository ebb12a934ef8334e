"""`confkeep stale`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import click
from rich.text import Text

from confkeep.errors import InvalidInput
from confkeep.settings import variable_of
from worker.cli import running
from worker.cli.called import called_device, tenant_json, tenant_text
from worker.cli.each import Failures
from worker.cli.params import Age
from worker.cli.terminal import Terminal, age_text, count_text, date_text, pass_terminal, printable
from worker.engine.directory import Called
from worker.engine.resolver import paths_of
from worker.engine.stale import last_backups

#: The exit status when a device is stale.
STALE: Final = 3


@dataclass(frozen=True, slots=True)
class _Stale:
    tenant_id: str
    device: Called
    #: None if git does not tell.
    last: dt.datetime | None
    age_s: float | None


@click.command("stale")
@click.option(
    "--older-than",
    "older_than_s",
    type=Age(),
    metavar="AGE",
    help="How old a device's newest backup may be: 90m, 26h, 2d.  [default: CONFKEEP_STALE_HOURS]",
)
@click.option("--tenant", metavar="TENANT", help="Only this tenant's devices.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal, older_than_s: float | None, tenant: str | None, as_json: bool
) -> None:
    """List the devices whose newest backup is too old.

    For cron and alerting. What counts is when the newest backup was committed, even if that backup
    changed nothing. It looks at the devices of the newest commit. The oldest comes first.

    \b
    Ends with
      0   no device is stale
      3   at least one is
      31  the tenant has no repository, or the store has none at all
    When a tenant cannot be read, it lists the others, and ends with the
    status of that error.

    \b
    With --json:
      {"older_than_s", "devices": how many were looked at,
       "stale": [{"tenant_id", "tenant_name", "device_id", "device_name",
                  "last_backup_at", "age_s"}],
       "errors": [{"tenant_id", "tenant_name", "error": why it cannot be read}]}

    \b
    Examples:
      confkeep stale
      confkeep stale --older-than 2d --tenant acme --json
    """
    now = dt.datetime.now(dt.UTC)
    devices, stale = 0, []
    settings = running.settings(terminal)
    if older_than_s is None:
        if not settings.stale_hours:
            raise InvalidInput(
                "--older-than", f"{variable_of('stale_hours')}=0 says no age: say one"
            )
        older_than_s = settings.stale_hours * 3_600
    failures = Failures(terminal, paths_of(settings.git_store_path, tenant))
    for tenant_id, found in failures.each(lambda _tenant_id, path: last_backups(path)):
        devices += len(found)
        for device_id, last in found.items():
            age_s = None if last is None else max(0.0, (now - last).total_seconds())
            if age_s is None or age_s > older_than_s:
                stale.append(_Stale(tenant_id, called_device(tenant_id, device_id), last, age_s))
    stale.sort(key=lambda one: (-(one.age_s or float("inf")), one.tenant_id, one.device.id))
    if as_json:
        terminal.json(
            {
                "older_than_s": older_than_s,
                "devices": devices,
                "stale": [
                    {
                        **tenant_json(one.tenant_id),
                        **one.device.json("device"),
                        "last_backup_at": one.last,
                        "age_s": None if one.age_s is None else round(one.age_s),
                    }
                    for one in stale
                ],
                "errors": failures.to_json(),
            }
        )
    elif stale:
        terminal.table(
            ["tenant", "device", "newest backup (UTC)", "age"],
            [
                [
                    tenant_text(one.tenant_id),
                    Text(printable(str(one.device)), style="cyan"),
                    "unknown" if one.last is None else date_text(one.last),
                    "" if one.age_s is None else age_text(one.age_s),
                ]
                for one in stale
            ],
        )
    if not as_json:
        terminal.note(f"{len(stale)} of {count_text(devices, 'device')} stale")
    failures.end()
    if stale:
        click.get_current_context().exit(STALE)
