"""Lines added and removed between two texts, as git counts them; pure."""

from __future__ import annotations

import pygit2
from pygit2.enums import DiffOption


def _as_lines(text: str) -> bytes:
    # `surrogatepass` keeps every string apart from every other: nothing is decoded again.
    return "".join(f"{line}\n" for line in text.splitlines()).encode("utf-8", "surrogatepass")


def compute_line_delta(old_text: str, new_text: str) -> tuple[int, int]:
    """Lines added and removed from `old_text` to `new_text`.

    Equals `git diff --numstat` between two files that hold `splitlines()` of both, one line each:
    a change of line ends alone, or of a final newline alone, counts nothing.

    Returns:
        `(added, removed)`.
    """
    if old_text == new_text:
        return 0, 0
    old, new = _as_lines(old_text), _as_lines(new_text)
    if old == new:
        return 0, 0
    if not old or not new:
        return new.count(b"\n"), old.count(b"\n")
    patch = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT, context_lines=0)
    _context, added, removed = patch.line_stats
    return added, removed
