"""Counts lines added and removed between two texts, as git counts them.

git does not always find the smallest edit, so no count of our own may stand in for its diff,
with one exception: lines that stand in one text only are set aside by git before it compares, and
if what is left of both is the same then nothing is left to compare. That is the usual case of two
neighbouring versions, and cheap to see. (git also sets aside lines that stand in the other text
very often; where there are such lines, libgit2 counts.)
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import chain, compress
from operator import eq, not_
from typing import Final, TypeVar

import pygit2
from pygit2.enums import DiffOption

from worker.store.repository.backup import decode_text

#: Line breaks of `str.splitlines` that `bytes.splitlines` does not know: in ASCII, and beyond it.
_OTHER_ENDS: Final = (b"\v", b"\f", b"\x1c", b"\x1d", b"\x1e")
_WIDE_ENDS: Final = (b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")

#: Short lines that are made once and reused: as many as most pairs of exports have distinct lines.
_KEPT_NUMBERS: Final = 20_000

#: Size of a text in bytes above which equal lines share one object, and of the pieces it is split
#: into.
_LARGE_BYTES: Final = 4 * 1024 * 1024
_PIECE_BYTES: Final = 512 * 1024

_Line = TypeVar("_Line", str, bytes)


def compute_line_delta(old_text: str, new_text: str) -> tuple[int, int]:
    """Lines added and removed from `old_text` to `new_text`.

    Equals `git diff --numstat` between two files that hold `splitlines()` of both, one line each:
    a change of line ends alone, or of a final newline alone, counts nothing.

    Returns:
        `(added, removed)`.
    """
    if old_text == new_text:
        return 0, 0
    return _count(old_text.splitlines(), new_text.splitlines())


def count_changed_lines(old: bytes, new: bytes) -> tuple[int, int]:
    """`compute_line_delta` of two exports' texts, decoding only what needs it.

    Returns:
        `(added, removed)`.
    """
    if old == new:
        return 0, 0
    known: dict[bytes, bytes] = {}
    return _count(_lines_of(old, known), _lines_of(new, known))


def _lines_of(data: bytes, known: dict[bytes, bytes]) -> list[bytes]:
    """The lines of an export's text; bytes that are not UTF-8 stay.

    Args:
        known: lines of large texts, each once: an object for each line would take twice the bytes
            of the text, and most lines of two exports of a device are the same.
    """
    ends = _OTHER_ENDS if data.isascii() else (*_OTHER_ENDS, *_WIDE_ENDS)
    if any(end in data for end in ends):
        lines = decode_text(data).splitlines()
        return [line.encode("utf-8", "surrogateescape") for line in lines]
    if len(data) <= _LARGE_BYTES:
        return data.splitlines()
    found: list[bytes] = []
    start = 0
    while start < len(data):
        # Cut after a line feed, so that no CR LF is split.
        end = data.find(b"\n", start + _PIECE_BYTES) + 1 or len(data)
        found += [known.setdefault(line, line) for line in data[start:end].splitlines()]
        start = end
    return found


def _count(old: list[_Line], new: list[_Line]) -> tuple[int, int]:
    if not old or not new:
        return len(new), len(old)
    found = _count_distinct(old, new)
    return _count_by_git(old, new) if found is None else found


def _count_distinct(old: list[_Line], new: list[_Line]) -> tuple[int, int] | None:
    """The counts, if only lines that the other text does not have were added and removed."""
    if len(old) == len(new):
        # Edits usually replace lines: where both texts are equal, no look-up is needed.
        same = list(map(eq, old, new))
        differ = list(map(not_, same))
        equal = list(compress(old, same))
        distinct = set(equal)
        gone, come = set(compress(old, differ)), set(compress(new, differ))
        if not (gone.isdisjoint(come) and distinct.isdisjoint(gone) and distinct.isdisjoint(come)):
            return None
    else:
        in_old, in_new = set(old), set(new)
        equal = list(filter(in_new.__contains__, old))
        if equal != list(filter(in_old.__contains__, new)):
            return None
        distinct = in_old & in_new
    if not _rare(equal, len(distinct), min(len(old), len(new))):
        return None
    return len(new) - len(equal), len(old) - len(equal)


def _rare(equal: list[_Line], distinct: int, length: int) -> bool:
    """Whether every line is rare enough that git sets none aside that both texts have.

    The bound is `xdl_bogosqrt` of the number of lines, in git's xdiff/xprepare.c.

    Args:
        equal: the lines that both texts have; `distinct`: how many different ones.
    """
    bound = min(1 << (length.bit_length() + 1) // 2, 1024)
    # All repeats may be of one line. Count them only if that would be too often.
    return len(equal) - distinct + 1 < bound or max(Counter(equal).values()) < bound


def _count_by_git(old: list[_Line], new: list[_Line]) -> tuple[int, int]:
    """The counts of libgit2's diff.

    libgit2 only needs to know which lines are equal, so each distinct line is replaced by a short
    number: libgit2 hashes whole texts before it compares them.
    """
    numbers: dict[_Line, bytes] = dict.fromkeys(chain(old, new), b"")
    numbers = dict(zip(numbers, _numbers(len(numbers)), strict=True))
    short_old, short_new = (b"".join(map(numbers.__getitem__, lines)) for lines in (old, new))
    patch = pygit2.Patch.create_from(
        short_old, short_new, flag=DiffOption.FORCE_TEXT, context_lines=0
    )
    _context, added, removed = patch.line_stats
    return added, removed


@lru_cache(maxsize=1)
def _first_numbers() -> list[bytes]:
    return [b"%x\n" % number for number in range(_KEPT_NUMBERS)]


def _numbers(count: int) -> list[bytes]:
    """This many different short lines."""
    if count <= _KEPT_NUMBERS:
        return _first_numbers()[:count]
    return [b"%x\n" % number for number in range(count)]
