"""Since when each line of an export stands there: the version that brought it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, compress, islice
from operator import ne
from typing import Final, NamedTuple

import pygit2
from pygit2.enums import DiffOption

from worker.store.history.index import open_index
from worker.store.repository.backup import EXPORT_NAME, Version
from worker.store.repository.many import Place, read_many
from worker.store.repository.tenant_repository import TenantRepository

#: Versions that are looked at, at most; lines that are older are dated to the last one.
MOST: Final = 2_000
#: Lines of a block.
_LINES: Final = 32
#: Behind a block that changed, the next one that did not is looked for among so many, in so many bytes.
_NEXT: Final = 4
_NEAR_BYTES: Final = 32 << 10
#: Of a block so many are looked for: what is longer is found more slowly.
_BEGINNING_BYTES: Final = 90
#: Stands where a last line has no end: that is another line than one with an end.
_UNENDED: Final = b"\0\n"
_HUNK: Final = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@", re.MULTILINE)


class _Block(NamedTuple):
    """Some whole lines of an export, and the version that brought each."""

    text: bytes
    since: list[Version]


def since_when(repository: TenantRepository, device_id: str, sha: str) -> list[Version]:
    """The version that brought each line of a device's export, as it stands in a commit.

    Compares blocks of lines, and only within those that differ lines; unlike `git blame`, which goes through
    all devices' commits.
    """
    with open_index(repository) as index:
        versions = index.versions(device_id, tip=sha, limit=MOST)[::-1]
    places = [
        Place(version.sha, f"{device_id}/{EXPORT_NAME}")
        if version.tree is None
        else Place(version.tree.hex(), EXPORT_NAME)
        for version in versions
    ]
    blocks: list[_Block] = []
    for version, export in zip(versions, read_many(repository, places), strict=True):
        blocks = _step(blocks, _ended(export or b""), version)
    return [version for block in blocks for version in block.since]


def _ended(export: bytes) -> bytes:
    return export if not export or export.endswith(b"\n") else export + _UNENDED


def _step(old: list[_Block], new: bytes, version: Version) -> list[_Block]:
    """The blocks of a version's export, from those of the version before it."""
    made: list[_Block] = []
    at = number = 0
    while True:
        first = number
        for text, _since in islice(old, first, None):
            if not new.startswith(text, at):
                break
            at += len(text)
            number += 1
        made += old[first:number]
        if number == len(old):
            return made + list(_changed([], new[at:], version))
        following, end = _next_alike(old, number + 1, new, at)
        made += _changed(old[number:following], new[at:end], version)
        at, number = end, following


def _next_alike(old: list[_Block], first: int, new: bytes, at: int) -> tuple[int, int]:
    """The next block that stands in the new text too, and where; their ends if there is none nearby."""
    near = at + _NEAR_BYTES
    for number in range(first, min(first + _NEXT, len(old))):
        text = old[number].text
        found = new.find(text[:_BEGINNING_BYTES], at, near)
        if (
            found >= 0
            and new[found - 1 : found] in (b"", b"\n")
            and new.startswith(text, found)
            # What begins alike twice does not tell which of them it is.
            and new.find(text[:_BEGINNING_BYTES], found + 1, near) < 0
        ):
            return number, found
    return len(old), len(new)


def _changed(old: list[_Block], new: bytes, version: Version) -> Iterator[_Block]:
    """The blocks of a text, from those of the one before it."""
    was, now = b"".join(block.text for block in old).split(b"\n"), new.split(b"\n")
    # Behind the last line's end nothing stands.
    del was[-1], now[-1]
    dates = _dates(was, now, [*chain.from_iterable(block.since for block in old)], version)
    size = len(now) if len(now) <= 2 * _LINES else _LINES
    for at in range(0, len(now), size or 1):
        yield _Block(b"\n".join([*now[at : at + size], b""]), dates[at : at + size])


def _dates(
    was: list[bytes], now: list[bytes], since: list[Version], version: Version
) -> list[Version]:
    """The version that brought each line, from those of the lines before."""
    if len(was) == len(now):
        # The usual edit replaces lines, and then nothing has to be looked up.
        differ = list(map(ne, was, now))
        if set(compress(was, differ)).isdisjoint(compress(now, differ)):
            return [version if new else date for new, date in zip(differ, since, strict=True)]
    dates = [version] * len(now)
    old, new = (b"\n".join([*lines, b""]) for lines in (was, now))
    # libgit2 does not copy them, and reads them again for `data`.
    patch = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT, context_lines=0)
    at = to = 0
    for hunk in [*_HUNK.finditer(patch.data or b""), None]:
        if hunk is None:
            begin, old_count, new_count = len(was), 0, 0
        else:
            old_count, new_count = (1 if each is None else int(each) for each in hunk.group(2, 3))
            # Of a hunk without old lines git names the line before it.
            begin = int(hunk[1]) - (1 if old_count else 0)
        dates[to : to + begin - at] = since[at:begin]
        to += begin - at + new_count
        at = begin + old_count
    return dates
