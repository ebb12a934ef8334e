"""Writes what pages have thousands of: the texts of lines."""

from __future__ import annotations

from markupsafe import Markup, escape

from worker.http.pages.changes import Line


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


def pieces(line: Line) -> Markup:
    """A line of a difference. In Python, for a page has thousands, and a macro takes three times as long."""
    texts = [(escape(shown(text)), marked) for text, marked in line.pieces]
    parts = [f"<mark>{text}</mark>" if marked else text for text, marked in texts]
    if line.moved is not None:
        where = "to" if line.kind == "old" else "from"
        parts.append(f'<span class="at">moved {where} line {line.moved}</span>')
    if line.unended:
        parts.append('<span class="at">no line end</span>')
    return Markup("".join(parts))  # noqa: S704
