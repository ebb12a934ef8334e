"""`confkeep reindex`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from confkeep.errors import StoreUnavailable
from worker.cli import running
from worker.cli.called import tenant_text
from worker.cli.each import Failures
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, pass_terminal
from worker.engine.resolver import paths_of
from worker.store.git import flock, ownership
from worker.store.git.durable import file_system_errors
from worker.store.history.index import open_index
from worker.store.history.index_build import Progress
from worker.store.repository.tenant_repository import TenantRepository, open_repository

#: Tries while a worker writes into the index too.
_TRIES: Final = 5


@click.command("reindex")
@click.argument("tenant", type=TENANT, required=False)
@click.option("--all", "all_tenants", is_flag=True, help="All tenants of the store.")
@pass_terminal
def command(terminal: Terminal, tenant: str | None, all_tenants: bool) -> None:
    """Build the history index anew from git.

    The index makes `confkeep history` fast, and git always counts more: the next commit rebuilds a
    damaged index without this command. Workers may go on meanwhile.

    \b
    Examples:
      confkeep reindex acme
      confkeep reindex --all
    """
    if (tenant is None) != all_tenants:
        raise click.UsageError("Give either TENANT or --all.")
    paths = paths_of(running.settings(terminal).git_store_path, tenant)
    failures = Failures(terminal, paths)
    for tenant_id, path in paths.items():
        with failures.noted(tenant_id):
            _reindex(terminal, tenant_id, path)
    failures.end()


def _reindex(terminal: Terminal, tenant_id: str, path: Path) -> None:
    ownership.require_writer(path)
    repository = open_repository(path)
    with (
        file_system_errors(path.name),
        flock.shared(path),
        terminal.phases(tenant_text(tenant_id)) as tell,
    ):
        started = time.monotonic()
        _rebuild(repository, lambda done, total: tell("commits", done, total))
    terminal.line(f"{tenant_text(tenant_id)}: index built in {time.monotonic() - started:.1f} s")


def _rebuild(repository: TenantRepository, progress: Progress) -> None:
    with open_index(repository) as index:
        for number in range(_TRIES):
            # A worker that commits meanwhile adds its own rows; the next round adds what is missing.
            tip = repository.tip()
            if index.catch_up(tip, progress, anew=not number) or index.is_complete(tip):
                return
    raise StoreUnavailable(
        f"the index of {repository.path.name} could not be written: the file system refused, or "
        "another process writes it"
    )
