"""`confkeep store`."""

from __future__ import annotations

import click

from confkeep.broker.connections import get_client
from confkeep.errors import StoreNotShared
from worker.cli import running
from worker.cli.terminal import Terminal, pass_terminal
from worker.process import own_store
from worker.store.repository import store_id
from worker.store.repository.tenant_repository import require_store


@click.command("store")
@click.option("--use", is_flag=True, help="Let workers commit to this store, whatever Redis notes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, *, use: bool, as_json: bool) -> None:
    """Say which store the workers commit to, or make this one the right one.

    A store has an id, in its file confkeep.store, and Redis notes for each shard the id of the store
    that its workers commit to. A worker that sees another store ends with 44, so that no tenant's
    history is split in two. --use is for a store that takes the other one's place on purpose: end
    the workers, run it where the new store is mounted, and start them again.

    It ends with 44 if this is not the store of all shards that this command's settings name.

    \b
    With --json: {"path", "id", "noted": the ids that Redis notes, "right"}.

    \b
    Examples:
      confkeep store
      confkeep store --use
    """
    settings = running.settings(terminal)
    path, client = settings.git_store_path, get_client(settings)
    require_store(path)
    own = own_store.use(client, settings) if use else store_id.read(path)
    noted = sorted(own_store.noted_ids(client, own_store.shards_of(settings)))
    is_right = noted in ([], [own])
    if as_json:
        terminal.json({"path": str(path), "id": own, "noted": noted, "right": is_right})
    else:
        terminal.line(f"{path}: {own or 'has no id yet; the first worker gives it one'}")
        terminal.line(f"workers commit to: {', '.join(noted) or 'none has started yet'}")
    if not is_right:
        raise StoreNotShared(f"{path} is not the store that workers commit to")
