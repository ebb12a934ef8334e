"""RouterOS exports: which lines are configuration and which are not.

An export opens with comment lines, one of which says when and by which version it was made:

    # jan/17/2022 10:00:00 by RouterOS 6.49
    # 2025-09-30 10:00:00 by RouterOS 7.16
    # jan/02/1970 00:00:31 by RouterOS 7.2.1      a device without a clock
    # ____-__-__ __:__:__ by RouterOS 7.16        a masked date; also with '-'

That line differs at every capture, so it says nothing about the configuration. Nor do the comments
between the commands, by which RouterOS tells the state of an item (`# ether5 not ready`): they come
and go by themselves. A person's comments are arguments (`comment=`). Colours are a terminal's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final

from confkeep.vendors.volatile import without_volatile

#: Lines of the opening comment that may come before the dated one: pollers put what other commands
#: print there, such as a list of packages.
_HEADER_LINES: Final = 500

_VOLATILE = re.compile(
    rb"#[ \t]+(?:[a-z]{3}/\d{2}/\d{4}|\d{4}-\d{2}-\d{2}|[_-]{3,4}[-/][_-]{2}[-/][_-]{2,4})"
    rb"[ \t]+(?:\d{2}:\d{2}:\d{2}|[_-]{2}:[_-]{2}:[_-]{2})[ \t]+by RouterOS\b[^\r\n]*",
    re.IGNORECASE,
)
#: A terminal's control sequences: ECMA-48, 5.4.
_ESCAPE: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
#: The mark that editors put before UTF-8.
BOM: Final = b"\xef\xbb\xbf"


def without_escapes(text: bytes) -> bytes:
    """The text without the colours that a terminal's session left in it."""
    return _ESCAPE.sub(b"", text) if b"\x1b" in text else text


def without_volatile_header(export: bytes) -> bytes:
    """The export without its dated header line; the very same object where there is none.

    Only comment lines and blank ones at the very top are looked at: the same text further down
    is configuration (a script's source, a note).
    """
    found = volatile_header(export)
    return export if found is None else export[: found[0]] + export[found[1] :]


def volatile_header(export: bytes) -> tuple[int, int] | None:
    """Where the dated header line begins and ends, its line end included; None if there is none."""
    start = len(BOM) if export.startswith(BOM) else 0
    for _ in range(_HEADER_LINES):
        end = export.find(b"\n", start) + 1 or len(export)
        stripped = export[start:end].strip()
        if stripped and not stripped.startswith(b"#"):
            return None
        if _VOLATILE.fullmatch(stripped):
            return start, end
        start = end
    return None


def comments_below_opening(export: bytes) -> Iterator[tuple[int, int]]:
    """Where each line that is a comment begins and ends, from the first command on."""
    at = _end_of_opening(export) - 1
    # One byte is found many times faster than two, and mostly there is none.
    if export.find(b"#", max(at, 0)) < 0:
        return
    # By `find`: an expression takes many times as long to come to each line.
    while (at := export.find(b"\n#", max(at, 0))) >= 0:
        end = export.find(b"\n", at + 1)
        yield at + 1, len(export) if end < 0 else end + 1
        at = len(export) if end < 0 else end


def same_configuration(old_export: bytes, new_export: bytes) -> bool:
    """Whether two exports describe the same configuration, byte for byte but for what says nothing
    about it: the dated header line, RouterOS's comments between the commands, colours, and what
    `confkeep.vendors` knows of other makers' exports."""
    if old_export == new_export:
        return True
    old_whole, new_whole = without_escapes(old_export), without_escapes(new_export)
    old, new = without_volatile_header(old_whole), without_volatile_header(new_whole)
    if old == new:
        return True
    if old is old_whole or new is new_whole:
        # Another maker's comments may be configuration.
        return without_volatile(old) == without_volatile(new)
    if all(export.find(b"#", _end_of_opening(export)) < 0 for export in (old, new)):
        return False  # neither has a comment, so nothing is left out of either
    # Where a comment came or went, one of them holds it in what is not common to both.
    if not any(lines.startswith(b"#") or b"\n#" in lines for lines in differing(old, new)):
        return False
    return _without_states(old) == _without_states(new)


def configuration_of(export: bytes) -> bytes:
    """An export without what says nothing about the configuration: the dated header line, RouterOS's
    comments between the commands, colours. Of another maker's, what `confkeep.vendors` knows."""
    whole = without_escapes(export)
    less = without_volatile_header(whole)
    return without_volatile(whole) if less is whole else _without_states(less)


def differing(old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """The lines of two texts between those that they begin and end with alike."""
    first = old.rfind(b"\n", 0, _alike(len(old), len(new), lambda n: old.startswith(new[:n]))) + 1
    most = min(len(old), len(new)) - first
    same = _alike(most, most, lambda n: n == 0 or old.endswith(new[-n:]))
    return old[first : len(old) - same], new[first : len(new) - same]


def _alike(one: int, other: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to both for which it holds, as for each smaller one."""
    return bisect_left(range(1, min(one, other) + 1), True, key=lambda n: not holds(n))


def _without_states(export: bytes) -> bytes:
    """An export without the comments between its commands, but for those in a script's source."""
    at = _end_of_opening(export)
    pieces, in_quotes = [export[:at]], False
    for start, end in comments_below_opening(export):
        piece = export[at:start]
        in_quotes ^= quotes_in(piece) % 2 == 1
        if in_quotes or piece.endswith((b"\\\n", b"\\\r\n")):
            in_quotes ^= quotes_in(export[start:end]) % 2 == 1
            piece = export[at:end]
        pieces.append(piece)
        at = end
    return b"".join([*pieces, export[at:]])


def quotes_in(text: bytes) -> int:
    """The quotes in a text that are not escaped."""
    return text.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"')


def _end_of_opening(export: bytes) -> int:
    """Where the line of the first command begins."""
    at = len(BOM) if export.startswith(BOM) else 0
    while at < len(export):
        end = export.find(b"\n", at) + 1 or len(export)
        line = export[at:end].strip()
        if line and not line.startswith(b"#"):
            break
        at = end
    return at
