"""`confkeep kick`."""

from __future__ import annotations

import click

from confkeep.broker.connections import get_client
from confkeep.broker.keys import shard_of
from worker.cli import running
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal, printable
from worker.cli.waking import wake
from worker.engine.resolver import find_tenant
from worker.queue import backoff, inboxes
from worker.queue.inbox import Inbox


@click.command("kick")
@click.argument("tenant", type=TENANT)
@pass_terminal
def command(terminal: Terminal, tenant: str) -> None:
    """Try again at once for a tenant that waits after a fault.

    Use it when you have mended the fault and the next try is up to a minute away. It ends the wait,
    sets the count of failed tries back to 0 and wakes a worker. `confkeep status` shows whether
    that worked.

    \b
    Examples:
      confkeep kick acme
      confkeep kick 1f7c3a52
    """
    settings = running.settings(terminal)
    client = get_client(settings)
    waiting = {box.tenant_id: box for box in inboxes.list_inboxes(client)}
    found = find_tenant(settings.git_store_path, tenant, waiting)
    tenant_id = found.id
    if tenant_id not in waiting:
        terminal.line(f"Nothing waits for tenant {printable(str(found))}.")
        return
    inbox = Inbox(client, settings, tenant_id)
    wait = backoff.get(inbox)
    backoff.kick(inbox)
    wake(terminal, settings, tenant_id)
    terminal.line(
        f"Woke shard {shard_of(tenant_id, settings.shards):02d} for tenant {printable(str(found))}: "
        f"{count_text(waiting[tenant_id].entries, 'backup')} waiting."
    )
    if wait is not None:
        tries = f"{wait.tries} {'try' if wait.tries == 1 else 'tries'}"
        terminal.note(f"waited after {tries}: {printable(wait.reason)}")
