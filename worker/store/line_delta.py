"""Lines added and removed between two texts, as git counts them; pure."""

from __future__ import annotations

import re
from typing import Final

import pygit2
from pygit2.enums import DiffOption

from worker.store.backup import decode_text

#: Bytes without which `splitlines` breaks at line feeds alone: other ASCII line ends, and the
#: first bytes of those beyond ASCII.
_OTHER_ENDS: Final = re.compile(rb"[\r\v\f\x1c-\x1e\xc2\xe2]")


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
    return _count(_as_lines(old_text), _as_lines(new_text))


def count_changed_lines(old: bytes, new: bytes) -> tuple[int, int]:
    """`compute_line_delta` of the texts that two exports hold, without decoding what needs none.

    Returns:
        `(added, removed)`.
    """
    if old == new:
        return 0, 0
    return _count(_lines_of_bytes(old), _lines_of_bytes(new))


def _lines_of_bytes(data: bytes) -> bytes:
    r"""The same lines as `_as_lines` of the text, ended by `\n`; bytes that are no UTF-8 stay."""
    if b"\r" in data:
        # RouterOS ends lines with CRLF.
        data = data.replace(b"\r\n", b"\n")
    if _OTHER_ENDS.search(data):
        return "".join(f"{line}\n" for line in decode_text(data).splitlines()).encode(
            "utf-8", "surrogateescape"
        )
    return data if not data or data.endswith(b"\n") else data + b"\n"


def _count(old: bytes, new: bytes) -> tuple[int, int]:
    if old == new:
        return 0, 0
    if not old or not new:
        return new.count(b"\n"), old.count(b"\n")
    patch = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT, context_lines=0)
    _context, added, removed = patch.line_stats
    return added, removed
