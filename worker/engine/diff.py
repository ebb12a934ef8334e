"""The difference of two exports, as git tells it."""

from __future__ import annotations

import re
from typing import Final

import pygit2
from pygit2.enums import DiffOption

from confkeep.routeros.sections import Sections
from worker.masking.hunks import mask_hunks

#: A hunk's first line: it says at which line of the old and of the new text the hunk begins.
_HEAD: Final = re.compile(rb"^(@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@)[^\n]*\n", re.MULTILINE)
#: A line of a hunk that stands in the old text, in the new one or in both.
_LINE: Final = re.compile(rb"^([-+ ])", re.MULTILINE)


def hunks(old: bytes, new: bytes, context: int = 3) -> bytes:
    """The hunks of a unified diff, without the names above them; empty if there is no difference.

    Quick for large exports too, where difflib takes minutes.

    Args:
        context: lines that stay the same around each change.
    """
    patch = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT, context_lines=context)
    data = patch.data or b""
    if b"\n@@ " not in data:
        return b""
    lines = data[data.find(b"\n@@ ") + 1 :]
    return _with_sections(lines, old, new) if b"\n/" in b"\n" + new or b"\n/" in old else lines


def masked_hunks(old: bytes, new: bytes, context: int = 3, model: str | None = None) -> bytes:
    """The hunks of the difference of two versions of a device, with each secret masked.

    They tell whether a secret changed, so they are not for two devices: whether these have the same
    password is nobody's to know. There, take `hunks(mask(one), mask(other))`.

    Args:
        model: the device's model label.
    """
    return mask_hunks(hunks(old, new, context), old, new, model)


def _with_sections(hunks: bytes, old: bytes, new: bytes) -> bytes:
    """Put the RouterOS section of a hunk's first change behind its `@@`, where git names functions.

    The comments above the first section have none: where the export's date changed too, the next change counts.
    """
    before, after = _Side(old), _Side(new)
    heads = list(_HEAD.finditer(hunks))
    pieces = []
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(hunks)
        body = hunks[head.end() : end]
        section = None
        old_line, new_line = int(head[2]), int(head[3])
        for line in _LINE.finditer(body):
            sign = line[1]
            if sign == b"-":
                section = before.section(old_line)
            elif sign == b"+":
                section = after.section(new_line)
            if section is not None:
                break
            old_line += sign != b"+"
            new_line += sign != b"-"
        name = b" " + section.encode() if section else b""
        pieces.append(head[1] + name + b"\n" + body)
    return b"".join(pieces)


class _Side:
    """One export: finds the section of a line by the line's number."""

    def __init__(self, export: bytes) -> None:
        self._sections = Sections(export)
        self._starts = [0, *(found.end() for found in re.finditer(rb"\n", export))]

    def section(self, line: int) -> str | None:
        """The section of a line, counted from 1."""
        at = min(max(line, 1), len(self._starts)) - 1
        return self._sections.at(self._starts[at])
