"""Writes what pages have thousands of, the rows of lines: a template takes several times as long for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from worker.http.pages.changes import Kind, Line

#: What marks a line of a difference; the word is for those who do not see the sign.
_SIGNS: Final[dict[Kind, str]] = {
    "same": "",
    "old": '\u2212<span class="hidden">removed</span>',
    "new": '+<span class="hidden">added</span>',
}


class Dated(NamedTuple):
    """Since when a line of an export stands there."""

    #: The version that brought it.
    sha: str
    day: str
    #: How long before the version that is shown: `day`, `week`, or nothing.
    age: str


def shown(text: object) -> str:
    """Text as a page shows it: what hides or reverses other characters stands as an escape."""
    text = str(text)
    # Of a page's thousands of lines nearly all are so.
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\t\n" else c.encode("unicode_escape", "replace").decode()
        for c in text
    )


def export_rows(texts: Iterable[str], dates: Iterable[Dated] | None) -> Markup:
    """The lines of an export with their numbers.

    Args:
        dates: one for each; None: they are not asked for.
    """
    dated = None if dates is None else iter(dates)
    rows: list[str] = []
    before: Dated | None = None
    for number, text in enumerate(texts, 1):
        run = cell = ""
        if dated is not None:
            date = next(dated)
            run = ' class="run"' if before is not None and date.sha != before.sha else ""
            cell = f'<td class="n since {date.age}"><a href="{date.sha}/diff">{date.day}</a></td>'
            before = date
        menu = ' class="menu"' if text.startswith("/") else ""
        rows += (
            f'<tr id="L{number}"{run}><td class="n"><a href="#L{number}">{number}</a></td>{cell}<td{menu}>',
            escape(shown(text)),
            "</td></tr>\n",
        )
    return Markup("".join(rows))  # noqa: S704


def unified_rows(lines: Iterable[Line]) -> Markup:
    """The lines of a hunk below each other."""
    rows: list[str] = []
    for line in lines:
        old, new = ("" if number is None else number for number in (line.old, line.new))
        place = "" if line.new is None else f' id="L{line.new}"'
        kind: str = "" if line.kind == "same" else line.kind if line.moved is None else "moved"
        numbers = f'<td class="n">{old}</td><td class="n">{new}</td>'
        rows += (
            f'<tr{place}>{numbers}<td class="s">{_SIGNS[line.kind]}</td><td class="{kind}">',
            *_pieces(line),
            "</td></tr>\n",
        )
    return Markup("".join(rows))  # noqa: S704


def pieces(line: Line) -> Markup:
    """A line of a difference, with what differs marked."""
    return Markup("".join(_pieces(line)))  # noqa: S704


def _pieces(line: Line) -> list[str]:
    parts: list[str] = []
    for text, marked in line.pieces:
        escaped = escape(shown(text))
        parts += ("<mark>", escaped, "</mark>") if marked else (escaped,)
    if line.moved is not None:
        where = "to" if line.kind == "old" else "from"
        parts.append(f'<span class="at">moved {where} line {line.moved}</span>')
    if line.unended:
        parts.append('<span class="at">no line end</span>')
    return parts
