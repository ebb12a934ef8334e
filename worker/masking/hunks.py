"""Masks the hunks of a diff, and marks the secrets in it that changed."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Final

from confkeep.routeros.sections import Sections
from worker.masking.mask import secrets_in
from worker.masking.spans import MASK, Lines, Span

#: Behind the mask of a secret that is not the one that it replaces.
CHANGED: Final = b" (changed)"
_HEAD: Final = re.compile(rb"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
#: What stands before a secret and names it, such as `password=`.
_KEY: Final = re.compile(rb"[^\s]*[ \t]*\Z")
#: Bytes before a secret in which its name is looked for.
_KEY_BYTES: Final = 64


def mask_hunks(hunks: bytes, old: bytes, new: bytes, model: str | None = None) -> bytes:
    """The hunks of the difference of two real exports with each secret masked.

    A secret in an added line that differs from the one in the removed line which it replaces is
    `*** (changed)`.

    Args:
        hunks: what `worker.engine.diff.hunks(old, new)` gave for these very texts.
    """
    if not hunks:
        return hunks
    before, after = (Lines(export, secrets_in(export, model)) for export in (old, new))
    sections = Sections(old).names | Sections(new).names
    out: list[bytes] = []
    block = _Block(out)
    old_line = new_line = 0
    adding = False
    # The last piece is what stands behind the last line's end: nothing.
    lines = hunks.split(b"\n")
    ended = lines[-1] == b""
    for line in lines[:-1] if ended else lines:
        sign = line[:1]
        if sign == b"-":
            if adding:
                block.end()
                adding = False
            if old_line in before.with_secrets:
                block.removed.append(_Line(len(out), sign, *before.line(old_line)))
            old_line += 1
        elif sign == b"+":
            adding = True
            if new_line in after.with_secrets:
                block.added.append(_Line(len(out), sign, *after.line(new_line)))
            new_line += 1
        # `\ No newline at end of file` stands behind a line of either side, and stays.
        elif sign != b"\\":
            block.end()
            adding = False
            if sign == b"@" and (head := _HEAD.match(line)):
                old_line, new_line = int(head[1]), int(head[2])
                line = _head(line, head.end(), sections)
            else:
                if new_line in after.with_secrets:
                    line = _Line(len(out), sign, *after.line(new_line)).masked()
                old_line += 1
                new_line += 1
        out.append(line)
    block.end()
    return b"\n".join(out) + (b"\n" if ended else b"")


def _head(line: bytes, end: int, sections: frozenset[str]) -> bytes:
    """A hunk's first line without the line that git quotes in it, unless that is a section."""
    name = line[end:].strip().decode("latin-1")
    return line if name in sections else line[:end]


@dataclass(slots=True)
class _Line:
    """A line of a diff with its secrets."""

    #: Its number among the lines that are given out.
    place: int
    sign: bytes
    text: bytes
    spans: list[Span]
    #: The numbers of the secrets that changed.
    changed: frozenset[int] = frozenset()

    def masked(self) -> bytes:
        """The line with its sign, and each secret masked."""
        pieces, at = [self.sign], 0
        for number, (start, end) in enumerate(self.spans):
            pieces += [self.text[at:start], MASK]
            if number in self.changed:
                pieces.append(CHANGED)
            at = end
        pieces.append(self.text[at:])
        return b"".join(pieces)

    def secrets(self) -> list[bytes]:
        return [self.text[start:end] for start, end in self.spans]

    def names(self) -> list[bytes]:
        """What names each secret."""
        found = (_KEY.search(self.text, max(0, a - _KEY_BYTES), a) for a, _b in self.spans)
        return [match[0] if match else b"" for match in found]


class _Block:
    """Removed lines, and those that stand in their place: of each, those that hold secrets."""

    def __init__(self, out: list[bytes]) -> None:
        self.removed: list[_Line] = []
        self.added: list[_Line] = []
        self._out = out

    def end(self) -> None:
        """Mask the lines where they stand, with marks; the block is empty again."""
        if self.removed or self.added:
            self._compare()
            for line in (*self.removed, *self.added):
                self._out[line.place] = line.masked()
            self.removed, self.added = [], []

    def _compare(self) -> None:
        """Find which secrets changed: those of lines that are alike but for them, else those of the same name."""
        alike: dict[bytes, deque[_Line]] = defaultdict(deque)
        for line in self.removed:
            alike[line.masked()[1:]].append(line)
        rest = []
        for line in self.added:
            if twins := alike.get(line.masked()[1:]):
                line.changed = _differing(twins.popleft().secrets(), line.secrets())
            else:
                rest.append(line)
        named: dict[bytes, deque[bytes]] = defaultdict(deque)
        for lines in alike.values():
            for line in lines:
                for key, secret in zip(line.names(), line.secrets(), strict=True):
                    named[key].append(secret)
        for line in rest:
            old = [named[key].popleft() if named.get(key) else None for key in line.names()]
            line.changed = _differing(old, line.secrets())


def _differing(old: list[bytes] | list[bytes | None], new: list[bytes]) -> frozenset[int]:
    return frozenset(
        number
        for number, (one, other) in enumerate(zip(old, new, strict=True))
        if one is not None and one != other
    )
