"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what stands in a cell is Markdown already."""
    head, *body = ("| " + " | ".join(cells) + " |" for cells in (heads, *rows))
    return "\n".join([head, "|" + "---|" * len(heads), *body]) + "\n"
