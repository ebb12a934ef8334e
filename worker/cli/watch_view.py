"""Draws `confkeep status --watch`: tables that fit a terminal of 80 columns or more.

What needs a person stands out by its words, and by colour where there is colour.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    OverflowMethod,
    RenderableType,
    RenderResult,
)
from rich.table import Table
from rich.text import Text

from confkeep.broker.keys import shard_of
from confkeep.settings import Settings
from worker.cli.terminal import age_text, count_text, first_line, printable, ranges, size_text
from worker.cli.watch_state import MOST_ROWS, Pace, Rates, Snapshot
from worker.engine.directory import SHORT_ID
from worker.observe import states
from worker.process.waits import advice
from worker.process.workers import WorkerStatus, unserved
from worker.queue import backoff

_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.-=+*#@"
#: Without room for this many rows of each list, there are no blank lines between lists.
_ROOMY: Final = 4
#: Columns of the last commits less the tenant and the device, with room for a few digits of lines.
_OF_COMMIT: Final = 40
#: Most columns of a dead letter's device, so that its reason has room.
_OF_DEAD: Final = 20
#: Most columns that the name of a tenant or device gets, and those of a whole id.
_NAME: Final = 36

#: Text with a style, or without one.
_Words = str | tuple[str, str] | Text


@dataclass(frozen=True, slots=True)
class View:
    """All that the terminal shows at one time. Rich asks for as many lines as the terminal has."""

    snapshot: Snapshot | None
    pace: Pace
    settings: Settings
    interval_s: float
    #: Why Redis does not answer, and for how many seconds; None if it does.
    outage: tuple[str, float] | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render everything, cut to the terminal's width and height."""
        utf8 = "utf" in console.encoding.lower()
        overflow: OverflowMethod = "ellipsis" if utf8 else "crop"
        height = options.height or console.height
        parts: list[RenderableType] = [*self._head(_BARS if utf8 else _ASCII_BARS)]
        if self.snapshot is not None:
            parts.append(Text())
            lists = list(_lists(self.snapshot, self.settings, options.max_width))
            counts, gap = _fit(lists, height - len(parts))
            for each, count in zip(lists, counts, strict=True):
                parts += [each.table(count, overflow), *([Text()] if gap else [])]
        options = options.update(height=None, no_wrap=True, overflow=overflow)
        lines = console.render_lines(Group(*parts), options, pad=False, new_lines=True)
        yield from chain.from_iterable(lines[:height])

    def _head(self, bars: str) -> Iterator[Text]:
        """The title, the outage and the summary, a line each."""
        ms = None if self.snapshot is None else self.snapshot.server_ms
        when = "" if ms is None else f"{dt.datetime.fromtimestamp(ms / 1000, dt.UTC):%H:%M:%S} UTC"
        about = f"   {when}   every {self.interval_s:g} s, Ctrl-C ends"
        yield Text.assemble(("confkeep status", "bold"), (about, "bold dim"))
        if self.outage is not None:
            problem, seconds = self.outage
            yield Text(f"{printable(problem)}, for {age_text(seconds)}; asking again", "bold red")
        if self.snapshot is not None:
            yield from _summary(self.snapshot, self.pace, self.settings, bars)


@dataclass(frozen=True, slots=True)
class _List:
    """A list with a heading. It may be shown without its last rows."""

    heading: _Words
    rows: Sequence[Sequence[_Words]]
    #: The titles of the columns; empty: one column without a title.
    titles: Sequence[str] = ()
    #: Titles of the columns to align to the right.
    right: frozenset[str] = frozenset()
    #: A line below the rows.
    note: str | None = None
    #: Lines that a row takes.
    row_lines: int = 1

    def lines(self, count: int) -> int:
        """How many lines the list takes with `count` rows."""
        titles = bool(count and self.titles)
        return 1 + titles + count * self.row_lines + (self.note is not None)

    def table(self, count: int, overflow: OverflowMethod) -> Table:
        """The table of its first `count` rows; the last column is cut at the terminal's edge."""
        rest = len(self.rows) - count
        table = Table(
            title=Text.assemble(self.heading, (f"   and {rest} more" if rest else "", "dim")),
            caption=None if self.note is None else Text(self.note, "yellow"),
            title_justify="left",
            caption_justify="left",
            show_header=bool(count and self.titles),
            header_style="dim",
            box=None,
            padding=(0, 0, 0, 2),
            expand=True,
        )
        titles = self.titles or ("",)
        for title in titles:
            table.add_column(
                title,
                justify="right" if title in self.right else "left",
                overflow=overflow,
                no_wrap=True,
                ratio=1 if title == titles[-1] else None,
            )
        for row in self.rows[:count]:
            table.add_row(*(Text.assemble(cell) for cell in row))
        return table


def _fit(lists: Sequence[_List], height: int) -> tuple[list[int], bool]:
    """How many rows of each list fit, and whether blank lines between the lists do."""
    roomy = sum(each.lines(min(len(each.rows), _ROOMY)) + 1 for each in lists)
    gap = height >= roomy
    counts = [min(1, len(each.rows)) for each in lists]
    left = height - sum(each.lines(n) + gap for each, n in zip(lists, counts, strict=True))
    # Give each list a row in turn, so that a long list leaves room for the others.
    for _ in range(1, MOST_ROWS):
        for i, each in enumerate(lists):
            if counts[i] < len(each.rows) and left >= each.row_lines:
                counts[i] += 1
                left -= each.row_lines
    return counts, gap


def _summary(snapshot: Snapshot, pace: Pace, settings: Settings, bars: str) -> Iterator[Text]:
    done, load = snapshot.totals, snapshot.load
    rates = pace.rates()
    yield Text.assemble(
        ("Committed  ", "bold"),
        ("-" if rates is None else f"{rates.committed_per_s:,.1f}/s", "green"),
        (f"  {_drawn(pace.speeds, bars)}", "cyan"),
        f"  {done.committed:,} in all, {done.unchanged:,} {states.UNCHANGED.word}",
    )
    yield _latency(rates)
    asks = {
        f"{done.retried:,} retried": done.retried,
        f"{done.suspect:,} {states.SUSPECT.word}": done.suspect,
        count_text(done.dead, states.DEAD.word): done.dead,
    }
    yield Text.assemble(
        ("Enqueued   ", "bold"),
        "-" if rates is None else f"{rates.enqueued_per_s:,.1f}/s",
        f"  {done.enqueued:,} in all",
        *((f", {what}", "yellow" if n else "") for what, n in asks.items()),
    )
    full = f"{load.full(settings):.0%} of the limit, " if load.nearly_full(settings) else ""
    yield Text.assemble(
        (f"{states.WAITING.title}    ", "bold"),
        # At the front, since a narrow terminal cuts the end.
        (full, "red"),
        f"{count_text(load.entries, 'backup')} of {count_text(snapshot.inbox_count, 'tenant')}, "
        f"{size_text(load.bytes)}, {count_text(snapshot.wakeups, 'wake-up')} queued",
    )


def _latency(rates: Rates | None) -> Text:
    text = Text.assemble(("Latency    ", "bold"))
    if rates is None or rates.latency_mean_s is None:
        return text.append("-")
    text.append(f"{_time(rates.latency_mean_s)} on average", "green")
    for bound_s, part in ((rates.latency_half_s, "half"), (rates.latency_95_s, "95 %")):
        if bound_s is not None and bound_s != float("inf"):
            text.append(f", {part} within {_time(bound_s)}")
    return text.append(f" (last {rates.seconds:.0f} s)", "dim")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else age_text(seconds)


def _drawn(speeds: Iterable[float], bars: str) -> str:
    speeds = list(speeds)
    most = max(speeds, default=0.0) or 1.0
    return "".join(bars[round(speed / most * (len(bars) - 1))] for speed in speeds)


def _lists(snapshot: Snapshot, settings: Settings, width: int) -> Iterator[_List]:
    yield _workers(snapshot, settings.shards)
    yield _inboxes(snapshot, settings.shards)
    if snapshot.waits:
        yield _faults(snapshot, settings)
    yield _commits(snapshot, width)
    yield _dead(snapshot)


def _workers(snapshot: Snapshot, shards: int) -> _List:
    missing = unserved(snapshot.workers, shards)
    return _List(
        (f"Workers: {len(snapshot.workers)}", "bold"),
        [
            [
                first_line(worker.name),
                ranges(worker.shards),
                swept(worker),
            ]
            for worker in snapshot.workers
        ],
        ["worker", "shards", "last sweep"],
        note=f"  No worker serves shards {ranges(missing)}." if missing else None,
    )


def swept(worker: WorkerStatus) -> tuple[str, str]:
    """When a worker made its last sweep, and the style of that."""
    state = states.SILENT if worker.silent else states.WORKING
    loud = f"  {state.loud}" if worker.silent else ""
    return f"{age_text(worker.last_sweep_age_s)} ago{loud}", state.style


def _inboxes(snapshot: Snapshot, shards: int) -> _List:
    return _List(
        (f"Inboxes, oldest first: {snapshot.inbox_count}", "bold"),
        [
            [
                f"{shard_of(box.tenant_id, shards):02d}",
                _tenant(snapshot, box.tenant_id),
                f"{box.entries:,}",
                size_text(snapshot.load.tenant_bytes.get(box.tenant_id, 0)),
                age_text(box.oldest_age_s),
            ]
            for box in snapshot.inboxes
        ],
        ["shard", "tenant", states.WAITING.word, "size", "oldest"],
        right=frozenset({states.WAITING.word, "size"}),
    )


def _faults(snapshot: Snapshot, settings: Settings) -> _List:
    """The tenants that wait after a fault, with why and what to do; the stalled ones first."""
    waits = backoff.urgent_first(snapshot.waits)
    rows = []
    for tenant_id, wait in waits:
        since_s = max(0, snapshot.server_ms - wait.since_ms) / 1000
        next_s = (wait.next_ms - snapshot.server_ms) / 1000
        state = (
            f"{_tenant(snapshot, tenant_id)}  {f'{states.STALLED.loud} ' if wait.stalled else ''}{wait.tries:,} "
            f"{'try' if wait.tries == 1 else 'tries'} in "
            f"{age_text(since_s)}, next {f'in {age_text(next_s)}' if next_s > 0 else 'due'}\n"
        )
        text = Text.assemble(
            (state, (states.STALLED if wait.stalled else states.AFTER_FAULT).style),
            f"  {printable(wait.reason)}\n",
            (f"  {printable(advice(wait.reason, settings, tenant_id))}", "dim"),
        )
        rows.append([text])
    stalled = sum(wait.stalled for _, wait in waits)
    heading = f"{states.AFTER_FAULT.title}: {len(waits)}, {stalled} {states.STALLED.word}"
    return _List((heading, f"bold {states.STALLED.style}"), rows, row_lines=3)


def _commits(snapshot: Snapshot, width: int) -> _List:
    # So that the lines, which people look for, fit whatever the names are.
    room = max(SHORT_ID, min(_NAME, (width - _OF_COMMIT) // 2))
    rows: list[list[_Words]] = []
    for commit in snapshot.recent:
        what: _Words
        if commit.suspect is not None:
            what = (f"{states.SUSPECT.word}: {printable(commit.suspect)}", states.SUSPECT.style)
        elif commit.unchanged:
            what = (states.UNCHANGED.word, states.UNCHANGED.style)
        else:
            added, removed = f"+{commit.lines_added}", f"-{commit.lines_removed}"
            what = Text.assemble((added, "green"), " ", (removed, "red"))
        rows.append(
            [
                f"{commit.committed_at.astimezone(dt.UTC):%H:%M:%S}",
                _short(commit.tenant_id, snapshot.tenant_names.get(commit.tenant_id), room),
                _short(commit.device_id, commit.device_name, room),
                printable(commit.sha[:10]),
                what,
            ]
        )
    return _List(("Last commits", "bold"), rows, ["time", "tenant", "device", "commit", "lines"])


def _tenant(snapshot: Snapshot, tenant_id: str) -> str:
    name = snapshot.tenant_names.get(tenant_id)
    return printable(tenant_id) if name is None else _short(tenant_id, name, _NAME)


def _short(id_: str, name: str | None, room: int) -> str:
    """A name with the first digits of the id behind it, in `room` columns; without a name the digits.

    Where that is too long, the digits go first and then the name's end.
    """
    digits = printable(id_[:SHORT_ID])
    if name is None:
        return digits
    alone = printable(name)
    if cell_len(alone) + len(f" ({digits})") <= room:
        return f"{alone} ({digits})"
    return alone if cell_len(alone) <= room else f"{set_cell_size(alone, room - 2)}.."


def _dead(snapshot: Snapshot) -> _List:
    return _List(
        (
            f"{states.DEAD.title}s: {snapshot.dead_count:,}",
            f"bold {states.DEAD.style}" if snapshot.dead_count else "bold",
        ),
        [
            [
                letter.died_at[11:19],
                _short(letter.device_id or "unknown", letter.device_name, _OF_DEAD),
                printable(letter.backup_id[:SHORT_ID]),
                (first_line(letter.reason), states.DEAD.style),
            ]
            for letter in reversed(snapshot.dead)
        ],
        ["died", "device", "backup", "reason"],
    )
