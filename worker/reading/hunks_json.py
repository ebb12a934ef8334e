"""A unified diff as JSON: its hunks, each with its section and its lines."""

from __future__ import annotations

import re
from typing import Final, Literal

from worker.reading.answers import Answer, DiffAnswer

_HEAD: Final = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)")
_KINDS: Final[dict[bytes, Literal["same", "removed", "added"]]] = {
    b" ": "same",
    b"-": "removed",
    b"+": "added",
}


class DiffLine(Answer):
    """A line of a hunk, and its numbers in the two texts; null where it does not stand in one."""

    kind: Literal["same", "removed", "added"]
    old_line: int | None = None
    new_line: int | None = None
    text: str


class Hunk(Answer):
    """Lines that changed, with some around them."""

    #: RouterOS's section of the first change; null outside of any.
    section: str | None = None
    old_start: int
    new_start: int
    lines: list[DiffLine]


class DiffJson(Answer):
    """The difference of two exports."""

    #: Null before the first version.
    old_sha: str | None = None
    new_sha: str
    lines_added: int
    lines_removed: int
    hunks: list[Hunk]


def diff_json(found: DiffAnswer) -> DiffJson:
    """The hunks of a difference, parsed."""
    hunks: list[Hunk] = []
    old = new = added = removed = 0
    for raw in found.hunks.split(b"\n")[:-1]:
        head = _HEAD.match(raw)
        if head is not None:
            old, new = int(head[1]), int(head[3])
            section = _text(head[5]) or None
            hunks.append(Hunk(section=section, old_start=old, new_start=new, lines=[]))
            continue
        kind = _KINDS.get(raw[:1])
        if kind is None or not hunks:
            continue  # `\ No newline at end of file`
        hunks[-1].lines.append(
            DiffLine(
                kind=kind,
                old_line=None if kind == "added" else old,
                new_line=None if kind == "removed" else new,
                text=_text(raw[1:]),
            )
        )
        old += kind != "added"
        new += kind != "removed"
        added += kind == "added"
        removed += kind == "removed"
    return DiffJson(
        old_sha=found.old_sha or None,
        new_sha=found.new_sha,
        lines_added=added,
        lines_removed=removed,
        hunks=hunks,
    )


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
