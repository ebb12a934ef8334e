"""Reads the complaints of `git fsck`: which objects are bad, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.store.git.git_objects import GitObjects
from worker.store.git.git_process import Progress

#: Matches the object that a complaint of `git fsck` is about.
_NAMED = re.compile(r"^(?:missing \w+ |error: (?:.*?[^-/0-9a-f])?)([0-9a-f]{40})\b")
_STYLE: Final = ("error in ", "warning in ")


def complaints_of(
    objects: GitObjects, tips: Iterable[bytes], path: Path, progress: Progress
) -> dict[bytes, str]:
    """The objects that `git fsck` complains of, with its words; b"" if it names no object.

    Args:
        tips: the commits from which it follows all links.
        path: the repository's, which its words leave out.

    Raises:
        GitUnavailable, MaintenanceFailed, OSError: as `GitObjects.fsck`.
    """
    done = objects.fsck(sorted(set(tips)), progress)
    found: dict[bytes, str] = {}
    told = 0
    for line in [*done.said.splitlines(), *done.printed.decode("utf-8", "replace").splitlines()]:
        # Unusual formats in other programs' objects are no damage: the hashes are right.
        if line.startswith(_STYLE):
            told += 1
        elif named := _NAMED.search(line):
            text = line.removeprefix("error: ").replace(f"{path.absolute()}/", "")
            found.setdefault(bytes.fromhex(named[1]), f"git fsck: {text}")
    if done.code and not found and not told:
        found[b""] = f"git fsck ended with {done.code}: {done.said.strip()[-300:]}"
    return found
