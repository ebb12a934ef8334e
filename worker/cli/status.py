"""`confkeep status`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Final

import click

from confkeep.broker.connections import get_client
from confkeep.broker.keys import shard_of
from confkeep.settings import Settings
from worker.cli import running
from worker.cli import watch as watch_
from worker.cli.called import device_name, tenant_name
from worker.cli.status_state import Status, read_status
from worker.cli.status_view import print_status
from worker.cli.terminal import Terminal, pass_terminal
from worker.process.waits import advice
from worker.queue.dead_letters import DeadLetter
from worker.queue.inboxes import InboxStatus

#: What --json says of a dead letter.
_OF_DEAD: Final = ("backup_id", "tenant_id", "device_id", "reason", "died_at")


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
        terminal.json(_json(settings, status))
    else:
        print_status(terminal, settings, status)


def _json(settings: Settings, status: Status) -> dict[str, object]:
    load, store = status.load, status.store
    names = {tenant_id: name for tenant_id in store.tenants if (name := tenant_name(tenant_id))}
    return {
        "tenants": store.tenants,
        "tenant_names": names,
        "broker_problems": status.broker_problems,
        "load": {
            "backups": load.entries,
            "bytes": load.bytes,
            "max_backups": settings.total_max_backups,
            "max_bytes": load.most_bytes(settings),
            "tenant_max_backups": settings.inbox_max_backups,
            "tenant_max_bytes": settings.inbox_max_bytes,
        },
        "workers": [dataclasses.asdict(worker) for worker in status.workers],
        "inboxes": [
            _inbox_json(box, names.get(box.tenant_id), settings, status) for box in status.inboxes
        ],
        "wakeups": status.depths,
        "dead_letters": [_dead_json(letter, names) for letter in status.dead],
        "odd": [dataclasses.asdict(one) for one in status.odd],
        "refused_messages": status.refused_messages,
        "astray": status.astray,
        "open_to_others": store.exposed,
        "maintenance": {"git": store.git, "skipped": store.skipped},
        "unreadable": store.unreadable,
    }


def _dead_json(letter: DeadLetter, names: Mapping[str, str]) -> dict[str, object]:
    return {
        **{name: getattr(letter, name) for name in _OF_DEAD},
        "tenant_name": names.get(letter.tenant_id),
        "device_name": letter.device_name or device_name(letter.tenant_id, letter.device_id),
    }


def _inbox_json(
    box: InboxStatus, name: str | None, settings: Settings, status: Status
) -> dict[str, object]:
    wait = status.waits.get(box.tenant_id)
    return {
        **dataclasses.asdict(box),
        "tenant_name": name,
        "shard": shard_of(box.tenant_id, settings.shards),
        "bytes": status.load.tenant_bytes.get(box.tenant_id, 0),
        "stalled": wait is not None and wait.stalled,
        "failed_tries": 0 if wait is None else wait.tries,
        "reason": None if wait is None else wait.reason,
        "next_step": None if wait is None else advice(wait.reason, settings, box.tenant_id),
        "failing_since": None if wait is None else _date(wait.since_ms),
        "next_try": None if wait is None else _date(wait.next_ms),
    }


def _date(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
