"""Cleans up what dead writers left, when a repository is opened for writing.

A killed writer, or a power cut, leaves at most:

    objects/pack/.tmp_pack_confkeep_*  a pack that was not finished
    objects/pack/.tmp_idx_confkeep_*   its idx
    objects/pack/pack-*.keep           a link to the flock: ended before `main` had moved for good (`keep`)
    objects/pack/pack-*.pack           with such a link and without its .idx: ended between two renames
    refs/**/*.lock, packed-refs.lock   ended while it moved or deleted a ref
    tmp_confkeep_*                     ended while it replaced HEAD, or made another file whole
    confkeep.rewritten-pending         a map of ids; `main` tells whether it counts (`id_map`)

A killed repack leaves its note `confkeep.repacking`, and files that git wrote since:

    objects/pack/tmp_*, .tmp-*         packs and idx files that git did not finish
    objects/**/*.lock, tmp_graph_*     of the multi-pack-index and the commit-graph
    objects/pack/pack-*                those that the note names, if their objects are in other packs

A git that somebody or cron started, and that died, leaves locks of these and other names
(`lock_files` tells which have a dead owner). A power cut may leave its loose objects cut short: they are
put aside (`opening`).

None of these is reachable from `main` or needed, except for `confkeep.rewritten-pending`: removing
them loses nothing. Keeps of people and of `git receive-pack` stay. A complete pack that `main` does
not reach yet is left alone: a retry of the same backups does not need it, our repacks keep its
objects, and git's own deletes it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from confkeep.errors import RepositoryDamaged
from worker.store.git import durable, flock, keep, lock_files, opening, pack_set
from worker.store.repository import id_map

#: Prefixes of the temporary names of packs and idx files. Not `tmp_`, which `git prune` removes.
PACK_PREFIX: Final = ".tmp_pack_"
IDX_PREFIX: Final = ".tmp_idx_"
_UNFINISHED: Final = tuple(
    f"{prefix}{durable.TEMPORARY_MARK}"
    for prefix in (PACK_PREFIX, IDX_PREFIX, "tmp_pack_", "tmp_idx_")
)
_FILE_PREFIX: Final = f"tmp_{durable.TEMPORARY_MARK}"

#: Exists while a repack runs, or after it was killed; has a line for each pack to be removed.
REPACKING_NAME: Final = "confkeep.repacking"

#: What a killed git may leave, as patterns below `objects`.
_GIT_LEAVES: Final = (
    "pack/tmp_*",
    "pack/.tmp-*",
    "pack/multi-pack-index.lock",
    "info/commit-graph.lock",
    "info/commit-graphs/*.lock",
    "info/commit-graphs/tmp_graph_*",
)
#: All files of a pack; the idx goes first, since readers find a pack by its idx.
_PACK_KINDS: Final = ("idx", "pack", "rev", "bitmap", "mtimes")
_PACK_NAME = re.compile(r"pack-[0-9a-f]{40}")


def recover(path: Path) -> None:
    """Remove what dead writers left, if no writer lives.

    Raises:
        OSError: the file system refused.
    """
    with flock.exclusive(path) as alone:
        if alone:
            for leftover in leftovers(path):
                durable.failpoint("leftover")
                durable.remove(leftover)
            for file in opening.cut_short(path):
                opening.put_aside(file)
            id_map.settle(path)
    flock.prepare_maintenance(path)
    if (path / REPACKING_NAME).exists():
        with flock.maintenance(path) as held:
            if held is not None:
                remove_repack_leftovers(path)


def leftovers(path: Path) -> list[Path]:
    """The files that dead writers left, in the order in which to remove them.

    Only meaningful while no writer lives: a living writer's files look the same.
    """
    # Locks go first: our temporary files tell which locks are ours.
    found = lock_files.ownerless(path)
    found += [path / name for name in os.listdir(path) if name.startswith(_FILE_PREFIX)]
    folder = path / "objects" / "pack"
    names = sorted(os.listdir(folder))
    found += keep.leftovers(folder, names)
    found += [folder / name for name in names if name.startswith(_UNFINISHED)]
    return found


def repack_leftovers(path: Path) -> list[Path]:
    """What a killed repack left, in the order in which to remove it.

    Only meaningful while no maintenance lives. Git's leftovers are told from other files by their
    age: they are not older than the repack's note.
    """
    note = path / REPACKING_NAME
    try:
        since_ns = note.stat().st_mtime_ns
        names = note.read_text("ascii").split()
    except FileNotFoundError:
        return []
    objects = path / "objects"
    # If somebody else's git runs, we cannot tell whose they are.
    patterns = () if lock_files.is_used_by_git(path) else _GIT_LEAVES
    found = [
        file
        for pattern in patterns
        for file in sorted(objects.glob(pattern))
        if durable.TEMPORARY_MARK not in file.name and _is_younger(file, since_ns)
    ]
    for name in _to_remove(objects / "pack", [n for n in names if _PACK_NAME.fullmatch(n)]):
        files = (objects / "pack" / f"{name}.{kind}" for kind in _PACK_KINDS)
        found += [file for file in files if file.exists()]
    return [*found, note]


def _to_remove(folder: Path, names: list[str]) -> list[str]:
    """The packs in a note whose removal began, or whose objects still are in other packs.

    Somebody's `git repack -a -d` may have made a pack of the same bytes, and so of the same name,
    since, and removed the packs that made the noted one superfluous.
    """
    begun = [name for name in names if not (folder / f"{name}.idx").exists()]
    try:
        return begun + pack_set.superfluous(folder, names)
    except RepositoryDamaged:
        # For a damaged idx, nobody can say what is elsewhere.
        return begun


def remove_repack_leftovers(path: Path) -> None:
    """Remove what a killed repack left, and its note. The caller holds the maintenance lock.

    Raises:
        OSError: the file system refused.
    """
    found = repack_leftovers(path)
    for leftover in found[:-1]:
        durable.remove(leftover)
    if found:
        # Remove the note only when nothing that it names can come back.
        durable.sync_directory(path / "objects" / "pack")
        durable.remove(found[-1])


def remove_pack(folder: Path, name: str) -> None:
    """Remove all files of a pack whose objects are in other packs."""
    for kind in _PACK_KINDS:
        durable.remove(folder / f"{name}.{kind}")


def _is_younger(file: Path, since_ns: int) -> bool:
    try:
        return file.stat().st_mtime_ns >= since_ns
    except FileNotFoundError:
        return False
