"""Leaves out of an export of any maker but MikroTik what differs from capture to capture.

The rules of all makers are followed, whatever the device's model label: each is narrow enough to
match no configuration of another's. So a label that is wrong, or that changes, changes no comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from confkeep.vendors.families import FAMILIES
from confkeep.vendors.rules import Volatile

#: Longer lines are no dates and counters.
_LINE_BYTES: Final = 8 * 1024
#: Longer blocks are no revision and no key.
_BLOCK_BYTES: Final = 64 * 1024


def without_volatile(export: bytes) -> bytes:
    """The export without what is no configuration; the very same object where there is nothing of it.

    What is left is for comparisons alone: a line may be left in half.
    """
    places: list[tuple[int, int]] = []
    for rule in _rules():
        marker = rule.marker.encode()
        if marker in export:
            places += _blocks(export, rule, marker) if rule.end else _lines(export, rule, marker)
    if not places:
        return export
    pieces, at = [], 0
    for start, end in sorted(places):
        if start >= at:
            pieces.append(export[at:start])
        at = max(at, end)
    return b"".join([*pieces, export[at:]])


def _lines(export: bytes, rule: Volatile, marker: bytes) -> Iterator[tuple[int, int]]:
    expression, at = _line(rule.line), 0
    while (found := export.find(marker, at)) >= 0:
        start = export.rfind(b"\n", 0, found) + 1
        end = export.find(b"\n", found)
        at = len(export) if end < 0 else end + 1
        if at - start > _LINE_BYTES:
            continue
        match = expression.fullmatch(export, start, at)
        if match is not None:
            yield match.span(1) if expression.groups else (start, at)


def _blocks(export: bytes, rule: Volatile, marker: bytes) -> Iterator[tuple[int, int]]:
    last, at = (rule.end or "").encode(), 0
    while (start := export.find(marker, at)) >= 0:
        end = export.find(last, start)
        if end < 0:
            return
        at = end + len(last)
        if at - start <= _BLOCK_BYTES:
            yield start, at


@cache
def _rules() -> tuple[Volatile, ...]:
    return tuple(dict.fromkeys(rule for family in FAMILIES for rule in family.volatile))


@cache
def _line(pattern: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?:%s)\n?" % pattern.encode())
