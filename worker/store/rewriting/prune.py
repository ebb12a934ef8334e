"""Removes what no ref of a repository reaches, by git's own program.

Only for who holds `flock.alone`: then no writer lives whose pack is durable and not yet referred
to, and no repack of ours runs that takes the new pack for one to be removed; git's own is kept from
it by a keep. `git repack -a -d` would do it all, but removes the old packs without having synced the
folder that names the new one.

Whoever is about to leave objects without a ref notes it first (`mark_due`). The note goes with the
next prune; so what is killed in between leaves nothing for ever.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from worker.store.git import durable, keep, refs
from worker.store.git.git_process import Git, require_git
from worker.store.repository import id_map, recovery
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting.rewrite import BEFORE_REFS, TIME_FORMAT, before_refs, stamp_of

#: An empty file: there may be objects that no ref reaches.
DUE_NAME: Final = "confkeep.prune-due"

#: Seconds after which git is killed: as for a repack, all of a repository may be written anew.
_TIMEOUT_S: Final = 6 * 3600.0

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
    """Take the note back. If a power cut brings it back, one prune too many runs."""
    durable.remove(path / DUE_NAME)


def prune_expired(repository: TenantRepository, held: int, *, oldest_s: int) -> int:
    """Drop the histories that a rewrite before `oldest_s` (seconds since 1970) replaced.

    Args:
        held: as `flock.alone` gives it.

    Returns:
        How many; where there is none, and no prune is due, nothing is done.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, or failed; the next call prunes.
        RepositoryBusy, OSError: as `refs.delete_refs`.
    """
    path = repository.path
    expired = [
        name
        for name in before_refs(repository.git)
        if (made := _made_s(name)) is not None and made <= oldest_s
    ]
    if expired or is_due(path):
        require_git()
        mark_due(path)
        refs.delete_refs(path, expired)
        id_map.drop_before(path, [stamp_of(name) for name in before_refs(repository.git)])
        prune(path, held)
    return len(expired)


def _made_s(name: str) -> float | None:
    found = _STAMP.fullmatch(name)
    if found is None:
        return None
    return dt.datetime.strptime(found[1], TIME_FORMAT).replace(tzinfo=dt.UTC).timestamp()


def prune(path: Path, held: int, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Let the objects be those that refs reach, in one pack; durable when this returns.

    Args:
        held: as `flock.alone` gives it.
        timeout_s: seconds after which git is killed.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, failed or took too long; no object was
            removed.
        OSError: the file system refused; what refs reach is there.
    """
    # Before any pack of ours has a name that the note of a repack that was killed might hold.
    recovery.remove_repack_leftovers(path)
    folder = path / "objects" / "pack"
    # Of a git that died, or failed for want of space; nobody's, since nobody else is alive.
    for pattern in ("tmp_*", ".tmp_*"):
        for unfinished in folder.glob(pattern):
            durable.remove(unfinished)
    git = Git(path, held, time.monotonic() + timeout_s)
    with ExitStack() as keeps:
        _keep_reachable(path, git, keeps)


def _keep_reachable(path: Path, git: Git, keeps: ExitStack) -> None:
    folder = path / "objects" / "pack"
    kept = ""
    # Without refs there is nothing to pack, and git would print no name.
    if git.run("rev-list", "--all", "--max-count=1"):
        base = durable.temporary_name(folder, recovery.PACK_PREFIX)
        said = git.run("pack-objects", "--all", "--delta-base-offset", "--quiet", str(base))
        written = base.with_name(f"{base.name}-{said.decode('ascii').strip()}")
        pack, idx = (written.with_name(f"{written.name}.{kind}") for kind in ("pack", "idx"))
        for file in (pack, idx):
            durable.sync_file(file)
        # A `git repack` of somebody's may be about to remove the packs that there are now. With a
        # name that it found it would remove this one too, while we remove the one that it makes.
        kept = keep.new_name()
        keep.name_pack(folder, kept, pack, idx, keeps)
    if (path / refs.PACKED_NAME).exists():
        # Of a git that was killed here; with it there, git refuses.
        durable.remove(path / f"{refs.PACKED_NAME}.new")
        # What a loose ref overrides there may name what goes. The loose ones stay, and count.
        git.run("pack-refs", "--all", "--no-prune")
        durable.sync_file(path / refs.PACKED_NAME)
        durable.sync_directory(path)
    for pattern in _HELPERS:
        for file in path.glob(pattern):
            durable.remove(file)
    # Before any other pack goes, the new one's name has to stay, and the helpers have to stay away:
    # after a power cut they would name packs and commits that are not there.
    for named in ("pack", "info", "info/commit-graphs"):
        if (path / "objects" / named).is_dir():
            durable.sync_directory(path / "objects" / named)
    durable.failpoint("pruned-pack-durable")
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


def reachable_ids(path: Path, held: int | None, *, timeout_s: float = _TIMEOUT_S) -> set[bytes]:
    """The ids of all objects that refs reach, as git tells.

    Args:
        held: as `flock.alone` gives it; None if nobody holds it.
        timeout_s: seconds after which git is killed.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, failed or took too long.
    """
    git = Git(path, held, time.monotonic() + timeout_s)
    said = git.run("rev-list", "--objects", "--no-object-names", "--all")
    return {bytes.fromhex(line.decode("ascii")) for line in said.split()}
