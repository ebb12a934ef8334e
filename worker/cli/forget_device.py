"""`confkeep forget-device`."""

from __future__ import annotations

from dataclasses import asdict

import click

from confkeep.observe import logs
from confkeep.settings import Settings
from worker.cli import running
from worker.cli.params import DEVICE, TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal, printable
from worker.engine import forget
from worker.engine.directory import Called
from worker.engine.resolver import find_device_of, find_tenant


@click.command("forget-device")
@click.argument("tenant", type=TENANT)
@click.argument("device", type=DEVICE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=10.0, metavar="SECONDS",
              help="Wait this long for its backups that are not committed yet.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal, tenant: str, device: str, yes: bool, wait_s: float, as_json: bool
) -> None:
    """Erase a device and all its backups for good.

    Removes its commits, its files in every other commit, older histories, and its dead letters,
    staged bytes and results. There is no grace time and no way back. The ids of all later commits
    of the tenant change; the old ids still work. At the end it reads every object to prove that
    nothing of the device is left.

    Stop polling the device first: the command refuses while its backups wait.

    \b
    With --json:
      {"tenant_id", "tenant_name", "device_id", "device_name", "commits",
       "dead_letters", "records",
       "handed_over": files of the tenant that no message refers to, so that
       nobody can tell whose they are}

    \b
    Examples:
      confkeep forget-device acme core1
      confkeep forget-device acme core1 --yes --wait 60
    """
    settings = running.settings(terminal)
    log_beside(terminal, settings)
    owner = find_tenant(settings.git_store_path, tenant)
    found = find_device_of(settings.git_store_path, owner.id, device)
    confirm(
        terminal, found, f"This erases all backups of device {found}, of tenant {owner}.", yes=yes
    )
    erased = forget.forget_device(settings, owner.id, found.id, wait_s=wait_s)
    if as_json:
        terminal.json({**owner.json("tenant"), **found.json("device"), **asdict(erased)})
        return
    terminal.line(
        f"Erased device {printable(str(found))}: {count_text(erased.commits or 0, 'commit')},"
        f" {count_text(erased.dead_letters, 'dead letter')},"
        f" {count_text(erased.records, 'record')}. No object of it is left."
    )
    if erased.handed_over:
        terminal.note(
            f"A client has handed over {count_text(erased.handed_over, 'file')} of the tenant that no"
            " message refers to: they may be of any device. They are deleted within a day."
        )


def log_beside(terminal: Terminal, settings: Settings) -> None:
    """Log as a worker does, for whoever keeps what the command writes; a person is told by the command itself."""
    logs.install(settings.log_format, "error" if terminal.err.is_terminal else settings.log_level)


def confirm(terminal: Terminal, what: Called, text: str, *, yes: bool) -> None:
    """Ask the person to type the name, or the id, of what will be erased; raises as `Terminal.confirm`."""
    if yes:
        return
    click.echo(f"{printable(text)} There is no way back.", err=True)
    asked = "its whole id" if what.name is None else f"{printable(what.name)}, or its whole id,"
    terminal.confirm(
        f"Type {asked} to go on", lambda typed: typed.lower() == what.id or typed == what.name
    )
