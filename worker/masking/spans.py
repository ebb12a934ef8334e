"""Where secrets stand in a text, and the text without them."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

#: What stands in the place of a secret.
MASK: Final = b"***"
#: A secret's place: its first byte, and the one behind its last.
Span = tuple[int, int]

_WRAP: Final = re.compile(rb"\\\r?\n[ \t]*")
_LINE_END: Final = re.compile(rb"\r?\n")


class Unwrapped:
    """A text without its wraps, so that names and values are whole: RouterOS breaks lines anywhere."""

    def __init__(self, export: bytes) -> None:
        #: Where each wrap begins and ends in the export, and where it was in `text`.
        self._starts, self._ends, self._places = array("Q"), array("Q"), array("Q")
        unwrapped, at = bytearray(), 0
        # An expression takes many times as long to come to each wrap, and most texts have none.
        wraps = _WRAP.finditer(export) if b"\\\n" in export or b"\\\r\n" in export else ()
        for found in wraps:
            start = found.start()
            if _is_escaped(export, start):
                continue
            unwrapped += export[at:start]
            at = found.end()
            self._starts.append(start)
            self._ends.append(at)
            self._places.append(len(unwrapped))
        self._export = export
        self.text = bytes(unwrapped + export[at:]) if at else export

    def real(self, spans: Iterable[Span]) -> list[Span]:
        """Where spans of `text` stand in the export, in order, without overlaps, each within one line."""
        out: list[Span] = []
        wrap = moved = 0
        for start, end in merged(spans):
            while wrap < len(self._places) and self._places[wrap] <= start:
                moved += self._ends[wrap] - self._starts[wrap]
                wrap += 1
            at = start + moved
            while wrap < len(self._places) and self._places[wrap] < end:
                _split(self._export, at, self._starts[wrap], out)
                at = self._ends[wrap]
                moved += at - self._starts[wrap]
                wrap += 1
            _split(self._export, at, end + moved, out)
        return out


def _is_escaped(export: bytes, at: int) -> bool:
    """Whether a backslash is itself escaped, and so no wrap."""
    # In steps: the run may be long, and is looked at once.
    first = at
    while first > 0 and export[first - 1] == 0x5C:
        first -= 1
    return (at - first) % 2 == 1


def _split(export: bytes, start: int, end: int, out: list[Span]) -> None:
    """Add a span line by line, without lines' ends and white space around."""
    while start < end:
        found = _LINE_END.search(export, start, end)
        stop = end if found is None else found.start()
        piece = export[start:stop]
        if stripped := piece.strip():
            first = start + piece.find(stripped[:1])
            out.append((first, first + len(stripped)))
        if found is None:
            return
        start = found.end()


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        elif end > start:
            out.append((start, end))
    return out


def without(export: bytes, spans: Sequence[Span]) -> bytes:
    """The export with each span replaced by the mask."""
    pieces, at = [], 0
    for start, end in spans:
        pieces.append(export[at:start])
        at = end
    return MASK.join([*pieces, export[at:]])


class Lines:
    """The lines of an export, and the secrets in each."""

    def __init__(self, export: bytes, spans: Sequence[Span]) -> None:
        self._export = export
        self._spans = spans
        self._span_starts = [start for start, _end in spans]
        self._starts = [0, *(found.end() for found in re.finditer(rb"\n", export))]
        #: The numbers of the lines that hold any, counted from 1.
        self.with_secrets = {bisect_right(self._starts, start) for start in self._span_starts}

    def line(self, number: int) -> tuple[bytes, list[Span]]:
        """A line, counted from 1, without its end, and the secrets in it."""
        start = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self._export)
        first = bisect_right(self._span_starts, start - 1)
        last = bisect_right(self._span_starts, end - 1) if end > start else first
        spans = [(a - start, b - start) for a, b in self._spans[first:last]]
        return self._export[start:end], spans
