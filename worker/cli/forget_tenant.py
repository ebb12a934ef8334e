"""`confkeep forget-tenant`."""

from __future__ import annotations

import click

from worker.cli import running
from worker.cli.forget_device import confirm, log_beside
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal, printable
from worker.engine import forget
from worker.engine.resolver import find_tenant


@click.command("forget-tenant")
@click.argument("tenant", type=TENANT)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=10.0, metavar="SECONDS",
              help="Wait this long for what is in its inbox.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, tenant: str, yes: bool, wait_s: float, as_json: bool) -> None:
    """Erase a tenant and all its backups for good.

    Removes its repository, and its dead letters, staged bytes and results. There is no grace time
    and no way back. The command refuses while backups of the tenant wait.

    \b
    With --json:
      {"tenant_id", "tenant_name", "dead_letters", "records"}

    \b
    Examples:
      confkeep forget-tenant acme
      confkeep forget-tenant acme --yes --json
    """
    settings = running.settings(terminal)
    log_beside(terminal, settings)
    found = find_tenant(settings.git_store_path, tenant)
    tenant_id = found.id
    confirm(terminal, found, f"This erases all backups of tenant {found}.", yes=yes)
    erased = forget.forget_tenant(settings, tenant_id, wait_s=wait_s)
    if as_json:
        value = {"dead_letters": erased.dead_letters, "records": erased.records}
        terminal.json({**found.json("tenant"), **value})
        return
    terminal.line(
        f"Erased tenant {printable(str(found))}: its repository,"
        f" {count_text(erased.dead_letters, 'dead letter')},"
        f" {count_text(erased.records, 'record')}."
    )
