"""How `confkeep status --watch` looks: lines of text that fit the terminal, in 80 columns and more.

What asks for a person stands out by words, and by colour where there is one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from confkeep.broker.keys import shard_of
from confkeep.settings import Settings
from worker.cli.terminal import age_text, count_text, first_line, printable, ranges, size_text
from worker.cli.watch import Pace, Rates, Snapshot
from worker.process.waits import advice

#: Seconds without a sweep after which a worker counts as silent.
SILENT_S: Final = 15.0
#: Part of a limit from which on it stands out.
_NEARLY_FULL: Final = 0.8
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.-=+*#@"
_GAP: Final = "  "
#: Most rows of each list.
_MOST: Final = 12
#: Rows of each list for which blank lines between the lists give way.
_ROOMY: Final = 4
#: Characters of an id that name it well enough for other commands.
_SHORT: Final = 8


@dataclass(frozen=True, slots=True)
class View:
    """One picture. Rich asks it for as many lines as the terminal has."""

    snapshot: Snapshot | None
    pace: Pace
    settings: Settings
    interval_s: float
    #: Why Redis does not answer, and for how many seconds; None: it does.
    outage: tuple[str, float] | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, each cut to the width."""
        height = options.height or console.height
        utf8 = "utf" in console.encoding.lower()
        for line in self.lines(height, bars=_BARS if utf8 else _ASCII_BARS)[:height]:
            line.truncate(options.max_width, overflow="ellipsis" if utf8 else "crop")
            line.no_wrap = True
            yield line

    def lines(self, height: int, bars: str = _BARS) -> list[Text]:
        """All that there is to say, in at most about `height` lines."""
        found = [self._title()]
        if self.outage is not None:
            problem, seconds = self.outage
            found.append(
                Text(f"{printable(problem)}, for {age_text(seconds)}; asking again", "bold red")
            )
        if self.snapshot is None:
            return found
        snapshot = self.snapshot
        found += [*_summary(snapshot, self.pace, self.settings, bars), Text()]
        faults = _faults(snapshot, self.settings)
        lists = [
            _workers(snapshot, self.settings.shards),
            _inboxes(snapshot, self.settings.shards),
            *([faults] if faults else []),
            _commits(snapshot),
            _dead(snapshot),
        ]
        return found + _fit(lists, height - len(found))

    def _title(self) -> Text:
        ms = None if self.snapshot is None else self.snapshot.server_ms
        when = "" if ms is None else f"{dt.datetime.fromtimestamp(ms / 1000, dt.UTC):%H:%M:%S} UTC"
        text = Text("confkeep status", "bold")
        text.append(f"   {when}   every {self.interval_s:g} s, Ctrl-C ends", "dim")
        return text


@dataclass(frozen=True, slots=True)
class _List:
    """A part with a heading and rows, which may be cut."""

    heading: Text
    #: The titles of the columns, if any.
    titles: list[Text]
    rows: list[Text]
    #: Said below all rows.
    note: Text | None = None
    #: Lines that a row takes.
    lines_a_row: int = 1


def _fit(lists: Sequence[_List], height: int) -> list[Text]:
    """The lists with as many rows of each as there is space for."""
    fixed = sum(1 + len(each.titles) + (each.note is not None) for each in lists)
    wanted = sum(min(len(each.rows), _ROOMY * each.lines_a_row) for each in lists)
    blank = [Text()] if height >= fixed + len(lists) + wanted else []
    left = max(0, height - fixed - len(blank) * len(lists))
    shown = [0] * len(lists)
    # A row for each in turn, so that a long list leaves space for the others.
    while True:
        grown = False
        for i, each in enumerate(lists):
            cost = each.lines_a_row
            most = min(len(each.rows) // cost, _MOST)
            if shown[i] < most and (left >= cost or shown[i] < min(1, most)):
                shown[i] += 1
                left -= cost
                grown = True
        if not grown:
            break
    found: list[Text] = []
    for each, count in zip(lists, shown, strict=True):
        heading = each.heading.copy()
        rest = len(each.rows) // each.lines_a_row - count
        if rest > 0:
            heading.append(f"   and {rest} more", "dim not bold")
        found.append(heading)
        if count:
            found += each.titles
            found += each.rows[: count * each.lines_a_row]
        if each.note is not None:
            found.append(each.note)
        found += blank
    return found


def _summary(snapshot: Snapshot, pace: Pace, settings: Settings, bars: str) -> list[Text]:
    done, load = snapshot.totals, snapshot.load
    rates = pace.rates()
    speed = Text("Committed  ", "bold")
    speed.append("-" if rates is None else f"{rates.committed_per_s:,.1f}/s", "not bold green")
    speed.append(f"  {_drawn(pace.speeds, bars)}", "not bold cyan")
    speed.append(f"  {done.committed:,} in all, {done.unchanged:,} unchanged", "not bold")
    taken = Text("Enqueued   ", "bold")
    taken.append("-" if rates is None else f"{rates.enqueued_per_s:,.1f}/s", "not bold")
    taken.append(f"  {done.enqueued:,} in all", "not bold")
    for number, what in ((done.retried, "retried"), (done.suspect, "suspect"), (done.dead, "dead")):
        taken.append(f", {number:,} {what}", "not bold yellow" if number else "not bold")
    full = load.full(settings)
    waiting = Text("Waiting    ", "bold")
    if full >= _NEARLY_FULL:
        # First: a narrow terminal cuts the end.
        waiting.append(f"{full:.0%} of the limit, ", "not bold red")
    waiting.append(
        f"{count_text(load.entries, 'backup')} of {count_text(snapshot.inbox_count, 'tenant')}, "
        f"{size_text(load.bytes)}, {count_text(snapshot.wakeups, 'wake-up')} queued",
        "not bold",
    )
    return [speed, _latency(rates), taken, waiting]


def _latency(rates: Rates | None) -> Text:
    text = Text("Latency    ", "bold")
    if rates is None or rates.latency_mean_s is None:
        return text.append("-", "not bold")
    text.append(f"{_time(rates.latency_mean_s)} on average", "not bold green")
    for bound_s, part in ((rates.latency_half_s, "half"), (rates.latency_95_s, "95 %")):
        if bound_s is not None and bound_s != float("inf"):
            text.append(f", {part} within {_time(bound_s)}", "not bold")
    return text.append(f" (last {rates.seconds:.0f} s)", "not bold dim")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else age_text(seconds)


def _drawn(speeds: Iterable[float], bars: str) -> str:
    speeds = list(speeds)
    most = max(speeds, default=0.0)
    if not most:
        return bars[0] * len(speeds)
    return "".join(bars[round(speed / most * (len(bars) - 1))] for speed in speeds)


def _workers(snapshot: Snapshot, shards: int) -> _List:
    rows: list[list[str | Text]] = [
        [
            first_line(worker.name),
            ranges(worker.shards),
            Text(
                f"{age_text(worker.last_sweep_age_s)} ago"
                + ("  SILENT" if worker.last_sweep_age_s > SILENT_S else ""),
                "red" if worker.last_sweep_age_s > SILENT_S else "green",
            ),
        ]
        for worker in snapshot.workers
    ]
    alive = {s for w in snapshot.workers if w.last_sweep_age_s <= SILENT_S for s in w.shards}
    missing = sorted(set(range(shards)) - alive)
    note = Text(f"  No worker serves shards {ranges(missing)}.", "yellow") if missing else None
    titles, lines = _columns(["worker", "shards", "last sweep"], rows)
    return _List(Text(f"Workers: {len(rows)}", "bold"), titles, lines, note)


def _inboxes(snapshot: Snapshot, shards: int) -> _List:
    rows: list[list[str | Text]] = [
        [
            f"{shard_of(box.tenant_id, shards):02d}",
            box.tenant_id,
            f"{box.entries:,}",
            size_text(snapshot.load.tenant_bytes.get(box.tenant_id, 0)),
            age_text(box.oldest_age_s),
        ]
        for box in snapshot.inboxes
    ]
    titles, lines = _columns(
        ["shard", "tenant", "waiting", "size", "oldest"], rows, frozenset({2, 3})
    )
    return _List(Text(f"Inboxes, oldest first: {snapshot.inbox_count}", "bold"), titles, lines)


def _faults(snapshot: Snapshot, settings: Settings) -> _List | None:
    """The tenants that wait after a fault, with why and what to do; the stalled ones first."""
    waits = sorted(snapshot.waits.items(), key=lambda item: (not item[1].stalled, item[1].since_ms))
    if not waits:
        return None
    stalled = sum(wait.stalled for _, wait in waits)
    rows = []
    for tenant_id, wait in waits:
        style = "red" if wait.stalled else "yellow"
        since_s = max(0, snapshot.server_ms - wait.since_ms) / 1000
        next_s = (wait.next_ms - snapshot.server_ms) / 1000
        rows.append(
            Text(
                f"  {tenant_id}  {'STALLED ' if wait.stalled else ''}{wait.tries} tries in "
                f"{age_text(since_s)}, next " + (f"in {age_text(next_s)}" if next_s > 0 else "due"),
                style,
            )
        )
        rows.append(Text(f"    {printable(wait.reason)}"))
        rows.append(Text(f"    {printable(advice(wait.reason, settings, tenant_id))}", "dim"))
    heading = Text(f"Waiting after a fault: {len(waits)}, {stalled} stalled", "bold red")
    return _List(heading, [], rows, lines_a_row=3)


def _commits(snapshot: Snapshot) -> _List:
    rows: list[list[str | Text]] = []
    for commit in snapshot.recent:
        if commit.suspect is not None:
            what = Text(f"suspect: {printable(commit.suspect)}", "yellow")
        elif commit.unchanged:
            what = Text("unchanged", "dim")
        else:
            what = Text(f"+{commit.lines_added}", "green")
            what.append(f" -{commit.lines_removed}", "red")
        rows.append(
            [
                f"{commit.committed_at.astimezone(dt.UTC):%H:%M:%S}",
                printable(commit.tenant_id[:_SHORT]),
                printable(commit.device_id[:_SHORT]),
                printable(commit.sha[:10]),
                what,
            ]
        )
    titles, lines = _columns(["time", "tenant", "device", "commit", "lines"], rows)
    return _List(Text("Last commits", "bold"), titles, lines)


def _dead(snapshot: Snapshot) -> _List:
    rows: list[list[str | Text]] = [
        [letter.died_at[11:19], letter.backup_id, Text(first_line(letter.reason), "red")]
        for letter in reversed(snapshot.dead)
    ]
    titles, lines = _columns(["died", "backup", "reason"], rows)
    style = "bold red" if snapshot.dead_count else "bold"
    return _List(Text(f"Dead letters: {snapshot.dead_count:,}", style), titles, lines)


def _columns(
    titles: Sequence[str], rows: Sequence[Sequence[str | Text]], right: frozenset[int] = frozenset()
) -> tuple[list[Text], list[Text]]:
    """Rows in columns under dimmed titles."""
    cells = [[c.copy() if isinstance(c, Text) else Text(c) for c in row] for row in rows]
    head = [Text(title, "dim") for title in titles]
    widths = [max(row[i].cell_len for row in [head, *cells]) for i in range(len(titles))]
    lines = []
    for row in [head, *cells]:
        line = Text(_GAP)
        for i, cell in enumerate(row):
            padding = " " * (widths[i] - cell.cell_len)
            line.append(padding if i in right else "")
            line.append_text(cell)
            line.append(("" if i in right else padding) + _GAP)
        line.rstrip()
        lines.append(line)
    return lines[:1], lines[1:]
