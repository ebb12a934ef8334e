"""What opening a repository for writing puts right; it touches nothing that a live process owns.

A writer that was killed, or a machine that lost power, leaves at most:

    objects/pack/tmp_pack_confkeep_*   a pack that was not finished
    objects/pack/tmp_idx_confkeep_*    its idx; the name goes on with the pack's checksum
    objects/pack/pack-*.pack           without its .idx: ended between the two renames
    refs/heads/main.lock               ended while it moved `main`
    HEAD.lock, packed-refs.lock        ended while git or libgit2 changed those
    tmp_confkeep_*                     ended while it replaced HEAD, or made another file whole
    confkeep.rewritten-pending         a map of ids; `main` tells whether it counts (`id_map`)

None of these but the last is needed, so removing them loses nothing. A complete pack that `main`
does not reach yet is left alone: a retry of the same backups does not need it, and a repack drops
it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from worker.store import durable, flock, id_map
from worker.store.backup import MAIN_REF

PACK_PREFIX: Final = f"tmp_pack_{durable.TEMPORARY_MARK}"
IDX_PREFIX: Final = f"tmp_idx_{durable.TEMPORARY_MARK}"
_FILE_PREFIX: Final = f"tmp_{durable.TEMPORARY_MARK}"

_LOCKS: Final = (f"{MAIN_REF}.lock", "HEAD.lock", "packed-refs.lock")


def recover(path: Path) -> bool:
    """Remove what dead writers left, if no writer lives.

    Returns:
        Whether it was looked for; False: another process writes at this moment.

    Raises:
        OSError: the file system refused.
    """
    with flock.exclusive(path) as alone:
        if alone:
            for leftover in leftovers(path):
                durable.failpoint("leftover")
                durable.remove(leftover)
            id_map.settle(path)
    return alone


def leftovers(path: Path) -> list[Path]:
    """The files that dead writers left, in the order in which they may be removed.

    Only meaningful while no writer lives: a live one's files look the same.
    """
    found = [path / name for name in _LOCKS if (path / name).exists()]
    found += [path / name for name in os.listdir(path) if name.startswith(_FILE_PREFIX)]
    folder = path / "objects" / "pack"
    names = set(os.listdir(folder))
    for name in sorted(names):
        if name.startswith(IDX_PREFIX):
            # The pack goes first: its idx's temporary name is what tells that it is ours, and not
            # that of a `git repack` whose idx is about to come.
            checksum = name.removeprefix(IDX_PREFIX).partition("_")[0]
            half = f"pack-{checksum}"
            if f"{half}.pack" in names and f"{half}.idx" not in names:
                found.append(folder / f"{half}.pack")
            found.append(folder / name)
        elif name.startswith(PACK_PREFIX):
            found.append(folder / name)
    return found
