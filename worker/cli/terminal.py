"""What a person sees: colours, tables, progress, errors.

Only a terminal gets colours, and none when NO_COLOR is set or TERM is `dumb`. In a pipe a table is
plain columns, and nothing is wrapped.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import click

from confkeep.wording import age_text as age_text
from confkeep.wording import count_text as count_text
from confkeep.wording import date_text as date_text
from confkeep.wording import printable as printable
from confkeep.wording import size_text as size_text
from confkeep.wording import utc_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

#: Seconds between two lines of progress where we can draw no bar.
_PROGRESS_LINE_S: Final = 5.0
_GAP: Final = "  "


def first_line(message: str) -> str:
    """The first line of a message that is not blank, printable; with ` ...` when more follow."""
    lines = message.strip().splitlines()
    if not lines:
        return ""
    return printable(lines[0]) + (" ..." if len(lines) > 1 else "")


def ranges(numbers: Sequence[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3 and 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none"


class Terminal:
    """Standard output and standard error, with the colours that each can take."""

    def __init__(self, *, no_color: bool = False, debug: bool = False) -> None:
        self._no_color = no_color
        #: Whether errors show where they come from.
        self.debug = debug
        #: Takes notes and errors of a command whose output is a log: the level, the text, and what
        #: to do. None: they are printed.
        self.log: Callable[[Literal["info", "error"], str, str | None], None] | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> Terminal:
        return ctx.find_object(cls) or cls()

    @cached_property
    def out(self) -> Console:
        return self._console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        return self._console(sys.stderr)

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        tty = stream.isatty()
        plain = (
            self._no_color
            or not tty
            or bool(os.environ.get("NO_COLOR"))
            or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
        )
        return Console(
            file=stream,
            force_terminal=tty,
            color_system=None if plain else "auto",
            markup=False,
            emoji=False,
            highlight=False,
        )

    def line(self, text: str | Text = "", style: str | None = None) -> None:
        """Print one line on standard output, as long as it is."""
        self.out.print(text, style=style, soft_wrap=True)

    def prose(self, text: str, style: str | None = None) -> None:
        """Print a sentence on standard output; a terminal's lines break between words."""
        self.out.print(text, style=style, soft_wrap=not self.out.is_terminal)

    def note(self, text: str) -> None:
        """Print one dimmed line on standard error: for a person, not for a pipe."""
        if self.log is not None:
            self.log("info", text, None)
            return
        self.err.print(text, style="dim", soft_wrap=not self.err.is_terminal)

    def error(self, problem: str, hint: str | None) -> None:
        """Print an error on standard error: a line that says what is wrong, and one that says what to do."""
        if self.log is not None:
            self.log("error", problem, hint)
            return
        from rich.text import Text

        text = Text("error: ", style="bold red")
        text.append(printable(problem), style="default not bold")
        wrapped = self.err.is_terminal
        self.err.print(text, soft_wrap=not wrapped)
        if hint:
            self.err.print(f"hint: {printable(hint)}", style="dim", soft_wrap=not wrapped)

    def confirm(self, question: str, is_right: Callable[[str], bool]) -> None:
        """Ask a person before what cannot be taken back; where nobody answers, nothing is confirmed.

        Raises:
            click.UsageError: what was typed is not right, or standard input has ended.
        """
        try:
            typed = click.prompt(question, default="", show_default=False, err=True)
        except click.Abort as error:
            if not isinstance(error.__context__, EOFError):
                raise
            click.echo(err=True)
            typed = ""
        if not is_right(typed.strip()):
            raise click.UsageError(
                "Not confirmed, so nothing was done. With --yes nothing is asked."
            )

    def bytes(self, data: bytes) -> None:
        """Write exactly these bytes to standard output."""
        sys.stdout.flush()
        rest = memoryview(data)
        while rest:
            # With PYTHONUNBUFFERED this is the bare file, which may write less than it is given.
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()

    def json(self, value: Any) -> None:
        """Print one JSON document, ASCII only, on standard output."""
        click.echo(json.dumps(value, indent=2, default=_json_of))

    def some(self, texts: Sequence[str], most: int, style: str | None = None) -> None:
        """Print the first of many lines, and how many more `--json` has."""
        for text in texts[:most]:
            self.line(text, style=style)
        self.and_more(len(texts), most)

    def and_more(self, count: int, most: int) -> None:
        """Say how many of `count` things were left out, if only `most` of them are printed."""
        if count > most:
            self.line(f"  and {count - most:,} more; --json lists all", style="dim")

    def heading(self, text: str) -> None:
        """Print a blank line and a title."""
        self.line()
        self.line(text, style="bold")

    def table(
        self, titles: Sequence[str], rows: Sequence[Sequence[str | Text]], right: str = ""
    ) -> None:
        """Print columns under dimmed titles. Where a terminal has no room for them, the widest are folded.

        Args:
            right: the titles of the columns to align to the right, separated by spaces.
        """
        from rich.text import Text

        head = [Text(title, style="dim") for title in titles]
        cells = [head, *([c if isinstance(c, Text) else Text(c) for c in row] for row in rows)]
        widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
        if self.out.is_terminal:
            room = self.out.width - len(_GAP) * (len(widths) - 1)
            while sum(widths) > max(room, len(widths)):
                widths[widths.index(max(widths))] -= 1
        aligned_right = [title in right.split() for title in titles]
        for row in cells:
            folded = [
                cell.wrap(self.out, width) if cell.cell_len > width else [cell]
                for cell, width in zip(row, widths, strict=True)
            ]
            for parts in zip_longest(*folded, fillvalue=Text()):
                line = Text()
                for part, width, is_right in zip(parts, widths, aligned_right, strict=True):
                    padding = " " * (width - part.cell_len)
                    line.append(padding if is_right else "").append_text(part)
                    line.append(_GAP if is_right else padding + _GAP)
                line.rstrip()
                self.line(line)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show on standard error how far `what` is; yields `advance(count)`.

        A bar on a terminal that can draw one, a line every few seconds elsewhere.
        """
        if self.err.is_terminal and self.err.color_system is not None:
            with self._bar(transient=False) as bar:
                task = bar.add_task(what, total=total)
                yield lambda count: bar.advance(task, count)
            return
        done, printed_at = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, printed_at
            done += count
            if done < total and time.monotonic() - printed_at >= _PROGRESS_LINE_S:
                self.note(f"{what}: {done:,} of {total:,}")
                printed_at = time.monotonic()

        yield advance
        self.note(f"{what}: {done:,} of {total:,}")

    def _bar(self, *, transient: bool) -> Progress:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
        )
        return progress.Progress(*columns, console=self.err, transient=transient)

    @contextmanager
    def phases(self, what: str) -> Iterator[Callable[[str, int, int], None]]:
        """As `progress`, of work in several parts; yields `tell(part, done, total)`."""
        if self.err.is_terminal and self.err.color_system is not None:
            with self._bar(transient=True) as bar:
                task = bar.add_task(what, total=None)
                yield lambda part, done, total: bar.update(
                    task, description=f"{what}: {part}", completed=done, total=total
                )
            return
        printed_at = time.monotonic()

        def tell(part: str, done: int, total: int) -> None:
            nonlocal printed_at
            if time.monotonic() - printed_at >= _PROGRESS_LINE_S:
                self.note(f"{what}: {part} {done:,} of {total:,}")
                printed_at = time.monotonic()

        yield tell


def _json_of(value: object) -> object:
    if isinstance(value, dt.datetime):
        return utc_text(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


#: The decorator that hands a command its `Terminal`.
pass_terminal = click.make_pass_decorator(Terminal)
