"""`confkeep status`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import click
from rich.text import Text

from confkeep import modes
from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.broker.keys import shard_of
from confkeep.errors import StoreError
from confkeep.settings import Settings, get_settings
from worker.cli import running
from worker.cli import watch as watch_
from worker.cli.terminal import (
    Terminal,
    age_text,
    count_text,
    first_line,
    pass_terminal,
    printable,
    ranges,
    size_text,
)
from worker.process.broker_check import find_problems
from worker.process.sweeper import WorkerStatus, list_workers, unserved
from worker.process.waits import advice
from worker.queue import backoff, oddities, refused, strays
from worker.queue.backoff import Backoff
from worker.queue.dead_letters import DeadLetter, list_dead_letters
from worker.queue.inbox import (
    InboxStatus,
    Load,
    list_inboxes,
    queue_depths,
    read_load,
    server_time_ms,
)
from worker.queue.oddities import Oddity
from worker.store.git import refs
from worker.store.git.durable import file_system_errors
from worker.store.git.git_process import git_problem
from worker.store.repository import repository_path, tenants_of
from worker.store.upkeep.repack_state import read_state

#: Most rows of a table that may have thousands.
_ROWS: Final = 20


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

    Inboxes hold what was accepted and is not committed yet; wake-ups are the messages that tell
    the workers of a shard to look. An inbox whose last commit failed is listed with why, since
    when and when it is tried again; after 5 tries it counts as stalled, and a person should look.
    Nothing in an inbox is ever dropped. `confkeep kick TENANT` tries one now, `confkeep
    dead-letters` is about what cannot be committed.

    --watch shows speed, latency, workers, what waits and why, and the last commits, and keeps them
    up to date; a server that goes away is shown, and asked again. Into a pipe it writes one line
    for each look, of `name=value` pairs or with --json as an object.

    \b
    With --json:
      {"tenants": [id],
       "broker_problems": why the server may lose what it acknowledged, empty when nothing is known,
       "load": {"backups", "bytes": of all inboxes, "max_backups", "max_bytes",
                "tenant_max_backups", "tenant_max_bytes": the limits at which an enqueue is refused},
       "workers": [{"name", "shards", "last_sweep_age_s",
                    "trouble": what a thread of it met lately that nobody foresaw, or null}],
       "inboxes": [{"tenant_id", "shard", "entries", "bytes", "oldest_age_s", "stalled",
                    "failed_tries", "reason": why the last commit failed, or null,
                    "next_step": what to do about it, or null, "failing_since", "next_try": dates, or null}],
       "wakeups": {shard: waiting, ...}, the empty ones left out,
       "dead_letters": [{"backup_id", "tenant_id", "device_id", "reason", "died_at"}],
       "odd": [{"key", "problem", "step": what to do}]: what others wrote under confkeep's keys,
       "refused_messages": how many messages no worker acts on,
       "astray": [id of a task `backups.receive` in the queue `celery`, where no worker reads],
       "open_to_others": repositories that all users of the machine may enter,
       "maintenance": {"git": what is wrong with it, or null,
                       "skipped": {tenant_id: why its last repack, or the full one, did not run}},
       "unreadable": {tenant_id, or "store": why it cannot be read}}
    """
    running.adopt(terminal)
    settings = get_settings()
    if watch:
        watch_.watch(terminal, settings, interval_s=interval, count=count, as_json=as_json)
        return
    client = get_client(settings)
    workers = list_workers(client)
    inboxes = list_inboxes(client)
    waits = backoff.get_many(client, [box.tenant_id for box in inboxes])
    load = read_load(client)
    depths = {shard: n for shard, n in queue_depths(client, settings).items() if n}
    dead = list_dead_letters(client)
    astray = strays.find(client)
    refused_messages = refused.count(client)
    tenants, closed = _tenants(settings)
    skipped, unreadable = _skipped_repacks(settings, tenants)
    unreadable |= closed
    odd = oddities.look(client, [box.tenant_id for box in inboxes])
    exposed = _exposed(settings, tenants)
    problems = find_problems(client, ask_all=False)
    if as_json:
        terminal.json(
            {
                "tenants": tenants,
                "broker_problems": problems,
                "load": _load_json(load, settings),
                "workers": [dataclasses.asdict(worker) for worker in workers],
                "inboxes": [
                    _inbox_json(box, waits.get(box.tenant_id), load, settings) for box in inboxes
                ],
                "wakeups": depths,
                "dead_letters": [_dead_json(letter) for letter in dead],
                "odd": [dataclasses.asdict(one) for one in odd],
                "refused_messages": refused_messages,
                "astray": astray,
                "open_to_others": exposed,
                "maintenance": {"git": git_problem(), "skipped": skipped},
                "unreadable": unreadable,
            }
        )
        return
    for problem in problems:
        terminal.line(f"Redis may lose what it acknowledged: {problem}", style="red")
    _print_workers(terminal, workers, settings.shards)
    _print_inboxes(terminal, inboxes, load, settings.shards, depths)
    _print_load(terminal, load, settings)
    _print_waits(terminal, settings, waits, server_time_ms(client))
    _print_dead(terminal, dead)
    _print_odd(terminal, odd)
    if refused_messages:
        terminal.line(
            f"Refused messages: {refused_messages:,}; `confkeep refused list` says why",
            style="yellow",
        )
    _print_astray(terminal, astray)
    terminal.heading(f"Store {settings.git_store_path}: {count_text(len(tenants), 'tenant')}")
    for tenant_id in tenants[:_ROWS]:
        terminal.line(f"  {tenant_id}")
    _and_more(terminal, len(tenants))
    _print_exposed(terminal, settings, exposed)
    _print_maintenance(terminal, skipped)
    for tenant_id, reason in list(unreadable.items())[:_ROWS]:
        terminal.line(f"  {tenant_id}: cannot be read: {printable(reason)}", style="red")
    _and_more(terminal, len(unreadable))


def _skipped_repacks(
    settings: Settings, tenants: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Why tenants' last repacks did not run, and why repositories cannot be read."""
    skipped: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for tenant_id in tenants:
        path = repository_path(settings.git_store_path, tenant_id)
        try:
            with file_system_errors(path.name):
                reason = read_state(path).skipped
                refs.read_main(path)
        except StoreError as error:
            unreadable[tenant_id] = str(error)
        else:
            skipped |= {tenant_id: reason} if reason else {}
    return skipped, unreadable


def _tenants(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The tenants of the store, or why it cannot be looked into."""
    try:
        with file_system_errors(str(settings.git_store_path)):
            return tenants_of(settings.git_store_path), {}
    except StoreError as error:
        return [], {"store": str(error)}


def _exposed(settings: Settings, tenants: Sequence[str]) -> int:
    """How many repositories every user of the machine may enter; what we create, none may."""
    store = settings.git_store_path
    if not tenants or not modes.is_open_to_others(store):
        return 0
    found = 0
    for tenant in tenants:
        # One that went meanwhile, or may not be looked at, is not open to others.
        with suppress(OSError):
            found += modes.is_open_to_others(repository_path(store, tenant))
    return found


def _print_exposed(terminal: Terminal, settings: Settings, exposed: int) -> None:
    if exposed:
        terminal.line(
            f"  Every user of this machine may read {'1 repository' if exposed == 1 else f'{exposed:,} repositories'}: "
            f"chmod -R go= {settings.git_store_path}",
            style="yellow",
        )


def _print_maintenance(terminal: Terminal, skipped: Mapping[str, str]) -> None:
    problem = git_problem()
    if problem is None and not skipped:
        return
    terminal.heading("Maintenance")
    if problem is not None:
        terminal.line(f"  {problem}", style="yellow")
    for tenant_id, reason in list(skipped.items())[:_ROWS]:
        terminal.line(f"  {tenant_id}: not repacked: {printable(reason)}", style="yellow")
    _and_more(terminal, len(skipped))


def _print_workers(terminal: Terminal, workers: Sequence[WorkerStatus], shards: int) -> None:
    terminal.line("Workers" if workers else "Workers: none has been seen", style="bold")
    if workers:
        terminal.table(
            ["  worker", "shards", "last seen"],
            [
                [
                    f"  {first_line(worker.name)}",
                    ranges(worker.shards),
                    Text(
                        f"{age_text(worker.last_sweep_age_s)} ago",
                        style="red" if worker.silent else "green",
                    ),
                ]
                for worker in workers
            ],
        )
    for worker in workers:
        if worker.trouble is not None:
            terminal.line(
                f"  {first_line(worker.name)}: trouble, see its log: {printable(worker.trouble)}",
                style="yellow",
            )
    if missing := unserved(workers, shards):
        terminal.line(f"  No worker serves shards {ranges(missing)}.", style="yellow")


def _print_inboxes(
    terminal: Terminal,
    inboxes: Sequence[InboxStatus],
    load: Load,
    shards: int,
    depths: Mapping[int, int],
) -> None:
    entries = sum(box.entries for box in inboxes)
    terminal.heading(
        f"Inboxes: {count_text(entries, 'backup')} of {count_text(len(inboxes), 'tenant')} "
        f"waiting, {count_text(sum(depths.values()), 'wake-up')} queued"
    )
    if inboxes:
        terminal.table(
            ["  shard", "tenant", "waiting", "size", "oldest"],
            [
                [
                    f"  {shard_of(box.tenant_id, shards):02d}",
                    box.tenant_id,
                    str(box.entries),
                    size_text(load.tenant_bytes.get(box.tenant_id, 0)),
                    age_text(box.oldest_age_s),
                ]
                for box in inboxes[:_ROWS]
            ],
            right="waiting size",
        )
        _and_more(terminal, len(inboxes))


def _print_load(terminal: Terminal, load: Load, settings: Settings) -> None:
    terminal.line(
        f"  {load.entries:,} of at most {settings.total_max_backups:,} backups, "
        f"{size_text(load.bytes)} of at most {size_text(load.most_bytes(settings))}; a tenant may "
        f"have {settings.inbox_max_backups:,} and {size_text(settings.inbox_max_bytes)}",
        style="red" if load.nearly_full(settings) else "dim",
    )


def _print_waits(
    terminal: Terminal, settings: Settings, waits: Mapping[str, Backoff], now_ms: int
) -> None:
    """The tenants that wait after a fault, those first that a person should look at."""
    if not waits:
        return
    stalled = sum(wait.stalled for wait in waits.values())
    terminal.heading(
        f"Waiting after a fault: {count_text(len(waits), 'tenant')}, {stalled} stalled"
    )
    for tenant_id, wait in backoff.urgent_first(waits)[:_ROWS]:
        tries = f"{wait.tries} failed {'try' if wait.tries == 1 else 'tries'}"
        next_s = (wait.next_ms - now_ms) / 1000
        terminal.line(
            f"  {tenant_id}: {'stalled, ' if wait.stalled else ''}{tries} in "
            f"{age_text(max(0, now_ms - wait.since_ms) / 1000)}, next try "
            + (f"in {age_text(next_s)}" if next_s > 0 else "is due"),
            style="red" if wait.stalled else "yellow",
        )
        terminal.line(f"    {printable(wait.reason)}")
        terminal.line(f"    {printable(advice(wait.reason, settings, tenant_id))}")
    _and_more(terminal, len(waits))


def _print_dead(terminal: Terminal, dead: Sequence[DeadLetter]) -> None:
    terminal.heading(f"Dead letters: {len(dead)}")
    for letter in dead[-_ROWS:]:
        terminal.line(
            f"  {first_line(letter.backup_id)}  {first_line(letter.died_at)}", style="red"
        )
        tenant, device = first_line(letter.tenant_id), first_line(letter.device_id or "unknown")
        terminal.line(f"    tenant {tenant}, device {device}")
        terminal.line(f"    {first_line(letter.reason)}")
    _and_more(terminal, len(dead))


def _print_odd(terminal: Terminal, odd: Sequence[Oddity]) -> None:
    if not odd:
        return
    terminal.heading(f"Not written by confkeep: {count_text(len(odd), 'key')}")
    for one in odd[:_ROWS]:
        terminal.line(f"  {printable(one.key)}: {printable(one.problem)}", style="red")
        terminal.line(f"    {printable(one.step)}")
    _and_more(terminal, len(odd))


def _print_astray(terminal: Terminal, astray: Sequence[str]) -> None:
    if not astray:
        return
    terminal.heading(
        f"Sent to the queue {keys.DEFAULT_QUEUE!r}, where no worker of confkeep reads: "
        f"{count_text(len(astray), 'backup')}"
    )
    terminal.line(
        f"  Their clients must send them with queue={keys.RECEIVE_QUEUE!r}, or set task_routes; then again, "
        "with the same backup_ids. docs/integrate.md says how.",
        style="yellow",
    )


def _and_more(terminal: Terminal, count: int) -> None:
    if count > _ROWS:
        terminal.line(f"  and {count - _ROWS} more; --json lists all", style="dim")


def _load_json(load: Load, settings: Settings) -> dict[str, int]:
    return {
        "backups": load.entries,
        "bytes": load.bytes,
        "max_backups": settings.total_max_backups,
        "max_bytes": load.most_bytes(settings),
        "tenant_max_backups": settings.inbox_max_backups,
        "tenant_max_bytes": settings.inbox_max_bytes,
    }


def _inbox_json(
    box: InboxStatus, wait: Backoff | None, load: Load, settings: Settings
) -> dict[str, object]:
    return {
        **dataclasses.asdict(box),
        "shard": shard_of(box.tenant_id, settings.shards),
        "bytes": load.tenant_bytes.get(box.tenant_id, 0),
        "stalled": wait is not None and wait.stalled,
        "failed_tries": 0 if wait is None else wait.tries,
        "reason": None if wait is None else wait.reason,
        "next_step": None if wait is None else advice(wait.reason, settings, box.tenant_id),
        "failing_since": None if wait is None else _date(wait.since_ms),
        "next_try": None if wait is None else _date(wait.next_ms),
    }


def _date(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def _dead_json(letter: DeadLetter) -> dict[str, object]:
    return {
        "backup_id": letter.backup_id,
        "tenant_id": letter.tenant_id,
        "device_id": letter.device_id,
        "reason": letter.reason,
        "died_at": letter.died_at,
    }
