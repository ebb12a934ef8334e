"""How `confkeep status` reads without `--watch`: lines for a person, the longest lists cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from rich.text import Text

from confkeep.broker import keys
from confkeep.broker.keys import shard_of
from confkeep.settings import Settings
from worker.cli.called import device_text, tenant_text
from worker.cli.next_step import next_step
from worker.cli.terminal import (
    Terminal,
    age_text,
    count_text,
    first_line,
    printable,
    ranges,
    size_text,
)
from worker.cli.watch_view import swept
from worker.figures.status_state import Status, StoreStatus
from worker.observe import states
from worker.process.waits import advice
from worker.process.workers import unserved
from worker.queue import backoff
from worker.queue.backoff import Backoff

#: A line's text and style.
_Line = tuple[str, str | None]
_T = TypeVar("_T")
#: Most rows of a table that may have thousands.
_ROWS: Final = 20


def print_status(terminal: Terminal, settings: Settings, status: Status) -> None:
    """Print all of it; what needs a person stands out."""
    for problem in status.broker_problems:
        terminal.line(f"Redis may lose what it acknowledged: {problem}", style="red")
    _print_workers(terminal, settings, status)
    _print_inboxes(terminal, settings, status)
    _print_waits(terminal, settings, status)
    _print_refused(terminal, status)
    _print_store(terminal, settings, status.store)


def _print_workers(terminal: Terminal, settings: Settings, status: Status) -> None:
    workers = status.workers
    terminal.line("Workers" if workers else "Workers: none has been seen", style="bold")
    if workers:
        rows: list[list[str | Text]] = [
            [f"  {first_line(each.name)}", ranges(each.shards), Text.assemble(swept(each))]
            for each in workers
        ]
        terminal.table(["  worker", "shards", "last seen"], rows)
    for worker in workers:
        if worker.trouble is not None:
            terminal.line(
                f"  {first_line(worker.name)}: trouble, see its log: {printable(worker.trouble)}",
                style="yellow",
            )
    if missing := unserved(workers, settings.shards):
        terminal.line(f"  No worker serves shards {ranges(missing)}.", style="yellow")


def _print_inboxes(terminal: Terminal, settings: Settings, status: Status) -> None:
    inboxes, load = status.inboxes, status.load
    entries = sum(box.entries for box in inboxes)
    terminal.heading(
        f"Inboxes: {count_text(entries, 'backup')} of {count_text(len(inboxes), 'tenant')} "
        f"{states.WAITING.word}, {count_text(sum(status.depths.values()), 'wake-up')} queued"
    )
    if inboxes:
        rows = [
            [
                f"  {shard_of(box.tenant_id, settings.shards):02d}",
                tenant_text(box.tenant_id),
                str(box.entries),
                size_text(load.tenant_bytes.get(box.tenant_id, 0)),
                age_text(box.oldest_age_s),
            ]
            for box in inboxes[:_ROWS]
        ]
        titles = ["  shard", "tenant", states.WAITING.word, "size", "oldest"]
        terminal.table(titles, rows, right=f"{states.WAITING.word} size")
        terminal.and_more(len(inboxes), _ROWS)
    terminal.prose(
        f"  {load.entries:,} of at most {settings.total_max_backups:,} backups, "
        f"{size_text(load.bytes)} of at most {size_text(load.most_bytes(settings))}; a tenant may "
        f"have {settings.inbox_max_backups:,} and {size_text(settings.inbox_max_bytes)}",
        style="red" if load.nearly_full(settings) else "dim",
    )


def _print_waits(terminal: Terminal, settings: Settings, status: Status) -> None:
    """The tenants that wait after a fault, those first that a person should look at."""

    def lines_of(found: tuple[str, Backoff]) -> list[_Line]:
        tenant_id, wait = found
        tries = f"{wait.tries} failed {'try' if wait.tries == 1 else 'tries'}"
        since_s = max(0, status.server_ms - wait.since_ms) / 1000
        next_s = (wait.next_ms - status.server_ms) / 1000
        state = (
            f"{tenant_text(tenant_id)}: {f'{states.STALLED.word}, ' if wait.stalled else ''}{tries} in {age_text(since_s)}, "
            f"next try {f'in {age_text(next_s)}' if next_s > 0 else 'is due'}"
        )
        step = advice(wait.reason, settings, tenant_id)
        style = (states.STALLED if wait.stalled else states.AFTER_FAULT).style
        return [(state, style), (f"  {wait.reason}", None), (f"  {step}", None)]

    if status.waits:
        stalled = sum(wait.stalled for wait in status.waits.values())
        terminal.heading(
            f"{states.AFTER_FAULT.title}: {count_text(len(status.waits), 'tenant')}, {stalled} "
            f"{states.STALLED.word}"
        )
        _print_some(terminal, backoff.urgent_first(status.waits), lines_of)


def _print_refused(terminal: Terminal, status: Status) -> None:
    """What cannot be committed, or is not ours."""
    terminal.heading(f"{states.DEAD.title}s: {len(status.dead)}")
    for letter in status.dead[-_ROWS:]:
        terminal.line(
            f"  {first_line(letter.backup_id)}  {first_line(letter.died_at)}",
            style=states.DEAD.style,
        )
        tenant = tenant_text(letter.tenant_id)
        device = device_text(letter.tenant_id, letter.device_id, letter.device_name)
        terminal.line(f"    tenant {tenant}, device {device}")
        terminal.line(f"    {first_line(letter.reason)}")
    terminal.and_more(len(status.dead), _ROWS)
    if status.odd:
        terminal.heading(f"Not written by confkeep: {count_text(len(status.odd), 'key')}")
        _print_some(
            terminal,
            status.odd,
            lambda one: [(f"{one.key}: {one.problem}", "red"), (f"  {one.step}", None)],
        )
    if status.refused_messages:
        terminal.line(
            f"Refused messages: {status.refused_messages:,}; `confkeep refused list` says why",
            style="yellow",
        )
    if status.astray:
        terminal.heading(
            f"Sent to the queue {keys.DEFAULT_QUEUE!r}, where no worker of confkeep reads: "
            f"{count_text(len(status.astray), 'backup')}"
        )
        terminal.line(
            f"  Their clients must send them with queue={keys.RECEIVE_QUEUE!r}, or set task_routes; then again, "
            "with the same backup_ids. docs/integrate.md says how.",
            style="yellow",
        )


def _print_store(terminal: Terminal, settings: Settings, store: StoreStatus) -> None:
    where = settings.git_store_path
    if store.refusal is None:
        terminal.heading(f"Store {where}: {count_text(len(store.tenants), 'tenant')}")
    else:
        terminal.heading(f"Store: {printable(str(store.refusal))}")
        terminal.prose(next_step(store.refusal, ["status"]) or "", style="yellow")
    _print_some(terminal, store.tenants, lambda id_: [(tenant_text(id_), None)])
    if store.exposed:
        repositories = "1 repository" if store.exposed == 1 else f"{store.exposed:,} repositories"
        terminal.line(
            f"  Every user of this machine may read {repositories}: chmod -R go= {where}",
            style="yellow",
        )
    if store.git or store.skipped:
        terminal.heading("Maintenance")
        if store.git:
            terminal.line(f"  {store.git}", style="yellow")
        _print_some(
            terminal,
            list(store.skipped.items()),
            lambda found: [(f"{tenant_text(found[0])}: not repacked: {found[1]}", "yellow")],
        )
    _print_some(
        terminal,
        list(store.unreadable.items()),
        lambda found: [(f"{tenant_text(found[0])}: cannot be read: {found[1]}", "red")],
    )


def _print_some(
    terminal: Terminal, found: Sequence[_T], lines_of: Callable[[_T], Iterable[_Line]]
) -> None:
    """The first of them, a few lines each; names are looked up for those alone."""
    for one in found[:_ROWS]:
        for text, style in lines_of(one):
            terminal.line(f"  {printable(text)}", style=style)
    terminal.and_more(len(found), _ROWS)
