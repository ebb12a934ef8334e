"""Removes what no ref of a repository reaches, by git's own program; it decides about no history.

Only for who holds `flock.alone`: then no writer lives whose pack is durable and not yet referred
to, and no repack runs that takes the new pack for one to be removed. `git repack -a -d` would do it,
but removes the old packs without having synced the folder that names the new one.

Whoever is about to leave objects without a ref notes it first (`mark_due`). The note goes with the
next prune; so what is killed in between leaves nothing for ever.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from worker import modes
from worker.errors import GitUnavailable, MaintenanceFailed
from worker.store import durable, id_map, recovery, refs
from worker.store.repository import TenantRepository
from worker.store.rewrite import BEFORE_REFS, TIME_FORMAT, before_refs, stamp_of

#: Says that there may be objects that no ref reaches; empty.
DUE_NAME: Final = "confkeep.prune-due"

#: What only makes reading faster, and may name objects that go.
_HELPERS: Final = (
    "objects/pack/multi-pack-index*",
    "objects/info/commit-graph",
    "objects/info/commit-graphs/*",
)
_PACK_FILES: Final = (".idx", ".bitmap", ".rev", ".mtimes", ".pack")
_STAMP = re.compile(re.escape(BEFORE_REFS) + r"(\d{8}T\d{6}Z)(?:-\d+)?")


def is_due(path: Path) -> bool:
    """Whether something that was killed, or failed, may have left objects that no ref reaches."""
    return (path / DUE_NAME).exists()


def mark_due(path: Path) -> None:
    """Note that a prune is due; durable when this returns.

    Raises:
        OSError: the file system refused.
    """
    if not is_due(path):
        durable.replace_file(path / DUE_NAME, b"")


def unmark_due(path: Path) -> None:
    """Take the note back. If it is there again after a power cut, there is a prune too many."""
    durable.remove(path / DUE_NAME)


def prune_expired(repository: TenantRepository, *, oldest_s: int) -> int:
    """Drop the histories that a rewrite before `oldest_s` (seconds since 1970) replaced.

    Returns:
        How many; where there is none, and no prune is due, nothing is done.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, or failed; the next call prunes.
        OSError, pygit2.GitError: as `refs.delete_refs`.
    """
    path = repository.path
    expired = [
        name
        for name in before_refs(repository.git)
        if (made := _made_s(name)) is not None and made <= oldest_s
    ]
    if expired or is_due(path):
        git_program()
        mark_due(path)
        refs.delete_refs(path, repository.git, expired)
        id_map.drop_before(path, [stamp_of(name) for name in before_refs(repository.git)])
        prune(path)
    return len(expired)


def _made_s(name: str) -> float | None:
    found = _STAMP.fullmatch(name)
    if found is None:
        return None
    return dt.datetime.strptime(found[1], TIME_FORMAT).replace(tzinfo=dt.UTC).timestamp()


def git_program() -> str:
    """Where git is.

    Raises:
        GitUnavailable: nowhere.
    """
    found = shutil.which("git")
    if found is None:
        raise GitUnavailable("git is not installed")
    return found


def prune(path: Path) -> None:
    """Let the objects be those that refs reach, in one pack; durable when this returns.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, or failed; no object was removed.
        OSError: the file system refused; what refs reach is there.
    """
    # Before any pack of ours has a name that the note of a repack that was killed might hold.
    recovery.remove_repack_leftovers(path)
    folder = path / "objects" / "pack"
    # Of a git that died, or failed for want of space; nobody's, since nobody else is alive.
    for unfinished in folder.glob("tmp_*"):
        durable.remove(unfinished)
    kept = ""
    # Without refs there is nothing to pack, and git would print no name.
    if _run(path, "rev-list", "--all", "--max-count=1"):
        options = ("--all", "--delta-base-offset", "--quiet")
        kept = "pack-" + _run(path, "pack-objects", *options, str(folder / "pack")).strip()
        for suffix in (".pack", ".idx"):
            durable.sync_file(folder / f"{kept}{suffix}")
    durable.sync_directory(folder)
    if (path / refs.PACKED_NAME).exists():
        # What a loose ref overrides there may name what goes. The loose ones stay, and count.
        _run(path, "pack-refs", "--all", "--no-prune")
        durable.sync_file(path / refs.PACKED_NAME)
        durable.sync_directory(path)
    durable.failpoint("pruned-pack-durable")
    for pattern in _HELPERS:
        for file in path.glob(pattern):
            durable.remove(file)
    stems = {name.rpartition(".")[0] for name in os.listdir(folder) if name.startswith("pack-")}
    for stem in sorted(stems - {kept}):
        # The idx first: readers find a pack by it.
        for suffix in _PACK_FILES:
            durable.remove(folder / f"{stem}{suffix}")
        durable.failpoint("pack-pruned")
    for loose in (path / "objects").glob("[0-9a-f][0-9a-f]/*"):
        durable.remove(loose)
    for changed in (folder, *(path / "objects").glob("[0-9a-f][0-9a-f]")):
        durable.sync_directory(changed)
    unmark_due(path)
    durable.failpoint("pruned")


def reachable_ids(path: Path) -> set[bytes]:
    """The ids of all objects that refs reach, as git tells.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, or failed.
    """
    said = _run(path, "rev-list", "--objects", "--no-object-names", "--all")
    return {bytes.fromhex(line) for line in said.split()}


def _run(path: Path, *arguments: str) -> str:
    """What git prints. The user's configuration does not count."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    done = subprocess.run(
        [
            git_program(),
            "-C",
            str(path),
            "-c",
            "core.fsync=all",
            "-c",
            "safe.directory=*",
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        umask=modes.umask_for(path),
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise MaintenanceFailed(f"{path.name}: git {arguments[0]}: {lines[-1]}")
    return done.stdout
