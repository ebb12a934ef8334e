"""`confkeep repack`."""

from __future__ import annotations

from dataclasses import asdict

import click

from confkeep.errors import ConfkeepError, StoreError
from worker.cli import running
from worker.cli.called import tenant_json, tenant_text
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal, size_text
from worker.engine.resolver import paths_of
from worker.store.git.git_process import require_git
from worker.store.upkeep.repack import Repacked, repack


@click.command("repack")
@click.argument("tenant", type=TENANT, required=False)
@click.option(
    "--full", is_flag=True, help="Make one pack of all, with good deltas, even if it is not due."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, tenant: str | None, full: bool, as_json: bool) -> None:
    """Put packs and loose objects together, so that repositories stay small.

    Without TENANT: all tenants of the store. Workers do this by themselves, and may go on meanwhile;
    no backup changes. It joins small packs. It makes one pack with good deltas of all when that
    pays, at most once a week, or with --full. Needs git on PATH, and free space for the new packs.

    When one tenant cannot be repacked, it goes on with the others, and ends with the status of the
    last such error.

    \b
    With --json:
      {"tenants": [{"tenant_id", "tenant_name", "full", "packs_before",
                    "packs_after", "bytes_before", "bytes_after",
                    "loose_before", "duration_s",
                    "no_full": why not all became one, or null,
                    "error": null; or why nothing was done, and then only
                             "tenant_id" is there too}]}

    \b
    Examples:
      confkeep repack acme
      confkeep repack --full
    """
    settings = running.settings(terminal)
    require_git()
    failed: ConfkeepError | None = None
    done: list[dict[str, object]] = []
    for tenant_id, path in paths_of(settings.git_store_path, tenant).items():
        try:
            with terminal.phases(tenant_text(tenant_id)) as tell:
                result = repack(path, full=True if full else None, progress=tell)
        except StoreError as error:
            failed = error
            done.append({**tenant_json(tenant_id), "error": str(error)})
            if not as_json:
                terminal.prose(f"{tenant_text(tenant_id)}  not repacked: {error}", style="red")
            continue
        seconds = round(result.duration_s, 3)
        found = {**asdict(result), "duration_s": seconds, "error": None}
        done.append({**tenant_json(tenant_id), **found})
        if not as_json:
            terminal.prose(f"{tenant_text(tenant_id)}  {_text_of(result)}")
    if as_json:
        terminal.json({"tenants": done})
    if failed is not None:
        raise failed


def _text_of(result: Repacked) -> str:
    what = "one of all" if result.full else "small ones together"
    loose = f", {count_text(result.loose_before, 'loose object')}" if result.loose_before else ""
    return (
        f"{count_text(result.packs_before, 'pack')}{loose} -> {result.packs_after} ({what}), "
        f"{size_text(result.bytes_before)} -> {size_text(result.bytes_after)}, "
        f"{result.duration_s:.1f} s"
    )
