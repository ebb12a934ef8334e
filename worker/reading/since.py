"""Since when each line of an export stands there: the version that brought it."""

from __future__ import annotations

import re
from itertools import compress, count, pairwise
from operator import ne
from typing import Final

import pygit2
from pygit2.enums import DiffOption

from worker.store.history.index import open_index
from worker.store.repository.backup import EXPORT_NAME, Version
from worker.store.repository.many import Place, read_many
from worker.store.repository.tenant_repository import TenantRepository

#: Versions that are looked at, at most; lines that are older are dated to the last one.
MOST: Final = 2_000
#: Single lines that two versions differ in, at most, to be taken for changed where they stand.
_FEW: Final = 100
_HUNK: Final = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def since_when(repository: TenantRepository, device_id: str, sha: str) -> list[Version]:
    """The version that brought each line of a device's export, as it stands in a commit.

    Costs a comparison for each version, of the lines that differ; unlike `git blame`, which goes through
    all devices' commits.
    """
    with open_index(repository) as index:
        versions = index.versions(device_id, tip=sha, limit=MOST)
    places = [Place(version.sha, f"{device_id}/{EXPORT_NAME}") for version in versions]
    exports = read_many(repository, places)
    newest = next(exports, None)
    if newest is None:
        return []
    newer = newest.split(b"\n")
    # Where each line of the version at hand stands in the newest; -1: not in it.
    lines = list(range(len(newer) - (not newer[-1])))
    found: list[Version] = [versions[-1]] * len(lines)
    for version, export in zip(versions, exports, strict=False):
        if export is None:
            _note(found, lines, version)
            break
        older = export.split(b"\n")
        lines = _step(found, lines, older, newer, version)
        newer = older
        if all(line < 0 for line in lines):
            break
    return found


def _step(
    found: list[Version], lines: list[int], old: list[bytes], new: list[bytes], version: Version
) -> list[int]:
    """Note the lines that a version brought; where those of the one before stand in the newest."""
    in_place = _changed_in_place(old, new)
    if in_place is not None:
        _note(found, [lines[at] for at in in_place], version)
        before = lines.copy()
        for at in in_place:
            before[at] = -1
        return before
    first, last = _alike(old, new)
    # libgit2 does not copy them, and reads them again for `data`.
    was, now = (b"\n".join([*each[first : len(each) - last], *[b""][:last]]) for each in (old, new))
    patch = pygit2.Patch.create_from(was, now, flag=DiffOption.FORCE_TEXT, context_lines=0)
    before = lines[:first]
    at = first
    for hunk in _HUNK.finditer(patch.data or b""):
        old_count, new_count = (1 if text is None else int(text) for text in (hunk[2], hunk[4]))
        # Of a hunk without new lines git names the line before it.
        begin = first + int(hunk[3]) - (1 if new_count else 0)
        before += lines[at:begin]
        _note(found, lines[begin : begin + new_count], version)
        before += [-1] * old_count
        at = begin + new_count
    return before + lines[at:]


def _changed_in_place(old: list[bytes], new: list[bytes]) -> list[int] | None:
    """Which lines are others, where only some single ones are: three times as quick to see as a difference."""
    if len(old) != len(new):
        return None
    changed = list(compress(count(), map(ne, old, new)))
    many = len(changed) > _FEW or any(one + 1 == other for one, other in pairwise(changed))
    return None if many or len(new) - 1 in changed else changed


def _alike(old: list[bytes], new: list[bytes]) -> tuple[int, int]:
    """How many lines both begin with alike, and then end with alike. What is behind the last line's end is
    no line, so it counts among the last ones alone."""
    most = min(len(old), len(new)) - 1
    first = min(most, next(compress(count(), map(ne, old, new)), most))
    last = next(compress(count(), map(ne, reversed(old), reversed(new))), most)
    return first, min(last, most - first)


def _note(found: list[Version], lines: list[int], version: Version) -> None:
    for line in lines:
        if line >= 0:
            found[line] = version
