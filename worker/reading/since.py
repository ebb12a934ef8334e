"""Since when each line of an export stands there: the version that brought it."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import compress, count, pairwise
from operator import ne
from typing import Final

import pygit2
from pygit2.enums import DiffOption

from worker.store.history.index import open_index
from worker.store.repository.backup import EXPORT_NAME
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: Versions that are looked at, at most; lines that are older are dated to the last one.
MOST: Final = 2_000
#: Single lines that two versions differ in, at most, to be taken for changed where they stand.
_FEW: Final = 100
_HUNK: Final = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Version:
    sha: str
    export_id: pygit2.Oid | None


@tells_damage
def since_when(repository: TenantRepository, device_id: str, sha: str) -> list[str]:
    """The commit that brought each line of a device's export, as it stands in a commit.

    Costs a comparison for each version, of the lines that differ; unlike `git blame`, which goes through
    all devices' commits.
    """
    with open_index(repository) as index:
        versions = index.versions(device_id, tip=sha, limit=MOST)
    shown = [_Version(each.sha, _export_id(repository, each.sha, device_id)) for each in versions]
    if not shown or shown[0].export_id is None:
        return []
    newer = _read(repository, shown[0].export_id)
    # Where each line of the version at hand stands in the newest; -1: not in it.
    lines = list(range(_count(newer)))
    found: list[str | None] = [None] * len(lines)
    for version, older in pairwise(shown):
        if older.export_id == version.export_id:
            continue
        if older.export_id is None:
            _note(found, lines, version.sha)
            lines = []
            break
        before = _read(repository, older.export_id)
        lines = _step(found, lines, before, newer, version.sha)
        newer = before
        if all(line < 0 for line in lines):
            break
    _note(found, lines, shown[-1].sha)
    return [each or shown[-1].sha for each in found]


def _step(found: list[str | None], lines: list[int], old: bytes, new: bytes, sha: str) -> list[int]:
    """Note the lines that a version brought; where those of the one before stand in the newest."""
    in_place = _changed_in_place(old, new)
    if in_place is not None:
        _note(found, [lines[at] for at in in_place], sha)
        before = lines.copy()
        for at in in_place:
            before[at] = -1
        return before
    start, stop = _alike(old, new)
    first = new.count(b"\n", 0, start)
    # libgit2 does not copy them, and reads them again for `data`.
    sides = old[start : len(old) - stop], new[start : len(new) - stop]
    patch = pygit2.Patch.create_from(*sides, flag=DiffOption.FORCE_TEXT, context_lines=0)
    before = lines[:first]
    at = first
    for hunk in _HUNK.finditer(patch.data or b""):
        old_count, new_count = (1 if text is None else int(text) for text in (hunk[2], hunk[4]))
        # Of a hunk without new lines git names the line before it.
        begin = first + int(hunk[3]) - (1 if new_count else 0)
        before += lines[at:begin]
        _note(found, lines[begin : begin + new_count], sha)
        before += [-1] * old_count
        at = begin + new_count
    return before + lines[at:]


def _changed_in_place(old: bytes, new: bytes) -> list[int] | None:
    """Which lines are others, where only some single ones are: three times as quick to see as a difference."""
    before, after = old.split(b"\n"), new.split(b"\n")
    if len(before) != len(after):
        return None
    changed = list(compress(count(), map(ne, before, after)))
    many = len(changed) > _FEW or any(one + 1 == other for one, other in pairwise(changed))
    return None if many or len(after) - 1 in changed else changed


def _alike(old: bytes, new: bytes) -> tuple[int, int]:
    """The bytes of whole lines that both texts begin with alike, and then end with alike."""
    most = min(len(old), len(new))
    head = bisect_left(range(1, most + 1), True, key=lambda n: old[:n] != new[:n])
    start = new.rfind(b"\n", 0, head) + 1
    most -= start
    tail = bisect_left(range(1, most + 1), True, key=lambda n: old[-n:] != new[-n:])
    line = new.find(b"\n", len(new) - tail)
    return start, 0 if line < 0 or not tail else len(new) - line - 1


def _note(found: list[str | None], lines: list[int], sha: str) -> None:
    for line in lines:
        if line >= 0:
            found[line] = sha


def _count(text: bytes) -> int:
    return text.count(b"\n") + (not text.endswith(b"\n") and bool(text))


def _export_id(repository: TenantRepository, sha: str, device_id: str) -> pygit2.Oid | None:
    try:
        return find_commit(repository, sha).tree[f"{device_id}/{EXPORT_NAME}"].id
    except KeyError:
        return None


def _read(repository: TenantRepository, id_: pygit2.Oid) -> bytes:
    return bytes(repository.git.odb.read(id_)[1])
