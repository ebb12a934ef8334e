"""`confkeep name`."""

from __future__ import annotations

import click

from confkeep.naming import name_device, name_tenant
from worker.cli import running
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, pass_terminal, printable
from worker.engine.directory import names_of
from worker.engine.resolver import find_device, open_tenant


@click.command("name")
@click.argument("tenant", type=TENANT)
@click.argument("words", nargs=-1, metavar="[DEVICE] [NAME]")
@click.option("--address", help="The device's address.")
@click.option("--model", help="The device's model.")
@click.option("--group", help="The group that it belongs to.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long until it is in git.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str,
    words: tuple[str, ...],
    address: str | None,
    model: str | None,
    group: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Say what a device, or a tenant, is called.

    A device's labels stand in git: confkeep commits them in order with the device's backups, and
    they stay until you give others; an empty text removes one. With TENANT and NAME alone the
    tenant gets the name, which stands in its repository's description.

    \b
    With --json: {"tenant_id", "device_id": null for a tenant, "name", "sha"}

    \b
    Examples:
      confkeep name acme 6b44cde1 core1 --group core
      confkeep name acme core1 --address 10.0.0.1
      confkeep name 1f7c3a52 acme
    """
    found, repository = open_tenant(running.settings(terminal).git_store_path, tenant)
    labels = {"address": address, "model": model, "group": group}
    given = any(value is not None for value in labels.values())
    if not words or len(words) > 2:
        raise click.UsageError(
            "Give TENANT NAME, TENANT DEVICE NAME, or TENANT DEVICE and a label."
        )
    device = None
    wanted: str | None = words[0]
    if len(words) == 1 and not given:
        result = name_tenant(found.id, words[0])
    else:
        device = find_device(repository, words[0])
        wanted = words[1] if len(words) == 2 else None
        result = name_device(found.id, device.id, wanted, **labels)
    sha = result.receipt(timeout).sha
    if as_json:
        device_id = None if device is None else device.id
        terminal.json({"tenant_id": found.id, "device_id": device_id, "name": wanted, "sha": sha})
        return
    if device is not None:
        called = f"is called {printable(wanted)}" if wanted else "has its labels"
        terminal.line(f"Device {device} {called} from commit {sha[:10]} on")
        return
    terminal.line(f"Tenant {found.id} is called {printable(words[0])}")
    if words[0] in {each.name for each in names_of(repository).values()}:
        was = f"; the tenant was {found}" if found.name else ""
        terminal.note(
            printable(
                f"a device is called so too: `confkeep name TENANT DEVICE NAME` names that one{was}"
            )
        )
