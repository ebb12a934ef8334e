"""`confkeep status`."""

from __future__ import annotations

import click

from confkeep.broker.connections import get_client
from worker.cli import running
from worker.cli import watch as watch_
from worker.cli.status_view import print_status
from worker.cli.terminal import Terminal, pass_terminal
from worker.figures.status_json import status_json
from worker.figures.status_state import read_status


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@click.option("--count", type=click.IntRange(1), help="With --watch: end after this many looks.")
@pass_terminal
def command(
    terminal: Terminal, as_json: bool, watch: bool, interval: float, count: int | None
) -> None:
    """Show what waits, who works and what failed.

    An inbox holds the backups of a tenant that are accepted and not committed yet; wake-ups are the
    messages that tell the workers of a shard to look. If the last commit for an inbox failed, it
    says why, since when, and when the next try is; after 5 failed tries the tenant is stalled, and
    a person should look. Nothing in an inbox is ever dropped. `confkeep kick TENANT` tries one now;
    `confkeep dead-letters` shows what cannot be committed.

    --watch shows speed, latency, workers, what waits and why, and the last commits, and keeps them
    up to date, also while a server is away. Into a pipe it writes one line for each look:
    `name=value` pairs, or with --json an object.

    \b
    With --json:
      {"tenants": [id],
       "tenant_names": {tenant_id: name}, of those that have one,
       "broker_problems": [why the server may lose what it acknowledged],
       "load": {"backups", "bytes": of all inboxes,
                "max_backups", "max_bytes", "tenant_max_backups",
                "tenant_max_bytes": limits at which an enqueue is refused},
       "workers": [{"name", "shards", "last_sweep_age_s",
                    "silent_after_s": the age at which it counts as silent,
                    "trouble": a recent unforeseen error, or null}],
       "inboxes": [{"tenant_id", "tenant_name", "shard", "entries", "bytes",
                    "oldest_age_s",
                    "stalled", "failed_tries",
                    "reason": why the last commit failed, or null,
                    "next_step": what to do about it, or null,
                    "failing_since", "next_try": dates, or null}],
       "wakeups": {shard: how many wait}, without the empty shards,
       "dead_letters": [{"backup_id", "tenant_id", "tenant_name", "device_id",
                         "device_name", "reason", "died_at"}],
       "odd": [{"key", "problem", "step": what to do}]: what others wrote
              under confkeep's keys,
       "refused_messages": how many messages no worker acts on,
       "astray": [id of a task `backups.receive` in the queue `celery`,
                  where no worker reads],
       "open_to_others": repositories that every user of the machine may enter,
       "maintenance": {"git": what is wrong with git, or null,
                       "skipped": {tenant_id: why its last repack, or the
                                   full one, did not run}},
       "unreadable": {tenant_id, or "store": why it cannot be read}}

    \b
    Examples:
      confkeep status
      confkeep status --watch
      confkeep status --watch --count 1 --json
    """
    settings = running.settings(terminal)
    if watch:
        watch_.watch(terminal, settings, interval_s=interval, count=count, as_json=as_json)
        return
    status = read_status(get_client(settings), settings)
    if as_json:
        terminal.json(status_json(settings, status))
    else:
        print_status(terminal, settings, status)
