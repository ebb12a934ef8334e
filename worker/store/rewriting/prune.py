"""Removes the objects of a repository that no ref reaches, with git.

Only for callers that hold `flock.alone`. It ensures that no writer has a durable pack that no ref
reaches yet, and that no repack of ours removes the new pack. A keep protects the new pack from
git's own repack. `git repack -a -d` is no alternative: it removes the old packs before it syncs the
folder that names the new one.

Code that is about to leave objects without a ref calls `mark_due` first. The next prune removes the
mark, so a killed process leaves nothing for good.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from confkeep.errors import RepositoryDamaged
from worker.store.git import durable, keep, refs
from worker.store.git.git_process import Git, git_problem, require_git
from worker.store.repository import id_map, recovery
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting.rewrite import (
    BEFORE_REFS,
    TIME_FORMAT,
    HistoryWriter,
    before_refs,
    stamp_of,
)

#: An empty file. If it exists, there may be objects that no ref reaches.
DUE_NAME: Final = "confkeep.prune-due"

#: Seconds after which git is killed. Like a repack, it may have to rewrite the whole repository.
_TIMEOUT_S: Final = 6 * 3600.0

#: Files that only make reading faster, and may name objects that are removed.
_HELPERS: Final = (
    "objects/pack/multi-pack-index*",
    "objects/info/commit-graph",
    "objects/info/commit-graphs/*",
)
_STAMP = re.compile(re.escape(BEFORE_REFS) + r"(\d{8}T\d{6}Z)(?:-\d+)?")


def is_due(path: Path) -> bool:
    """Whether a killed or failed process may have left objects that no ref reaches."""
    return (path / DUE_NAME).exists()


def mark_due(path: Path) -> None:
    """Note that a prune is due; durable when this returns.

    Raises:
        OSError: the file system refused.
    """
    if not is_due(path):
        durable.replace_file(path / DUE_NAME, b"")


@contextmanager
def history_writer(repository: TenantRepository, main: str) -> Iterator[HistoryWriter]:
    """A writer of a history that the block makes the current one by `replace_history`.

    A prune is due meanwhile: whoever is killed leaves objects that no ref reaches. If a power cut brings
    the mark back, one needless prune runs.

    Args:
        main: the commit that `main` names.
    """
    due = is_due(repository.path)
    mark_due(repository.path)
    with ExitStack() as keeps, HistoryWriter(repository, main, keeps) as writer:
        yield writer
    if not due:
        durable.remove(repository.path / DUE_NAME)


def prune_expired(repository: TenantRepository, held: int, *, oldest_s: int) -> int:
    """Drop the histories that rewrites before `oldest_s` (seconds since 1970) replaced.

    Args:
        held: as `flock.alone` gives it.

    Returns:
        How many histories were dropped. If none was and no prune is due, nothing changes.

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


def require_refs(path: Path, held: int) -> None:
    """Check that git can read the configuration and the refs, as a prune after a rewrite has to.

    Does nothing without git: then only the prune fails, and says so.

    Args:
        held: as `flock.alone` gives it.

    Raises:
        RepositoryDamaged: it cannot.
        MaintenanceFailed: git took too long.
        OSError: the file system refused.
    """
    if git_problem() is not None:
        return
    git = Git(path, held, time.monotonic() + _TIMEOUT_S)
    done = git.finish("for-each-ref", "--format=%(refname)")
    if done.code:
        raise RepositoryDamaged(f"{path.name}: git cannot read its refs: {done.said.strip()[:300]}")


def prune(path: Path, held: int) -> None:
    """Keep only the objects that refs reach, in one pack; durable when this returns.

    Args:
        held: as `flock.alone` gives it.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, failed or took too long; no object was
            removed.
        OSError: the file system refused; what refs reach is there.
    """
    # Do this before the new pack gets a name: a killed repack's note might list the same name.
    recovery.remove_repack_leftovers(path)
    _remove_unfinished(path)
    git = Git(path, held, time.monotonic() + _TIMEOUT_S)
    try:
        with ExitStack() as keeps:
            _keep_reachable(path, git, keeps)
    except BaseException:
        # On a full disk it would take the room that others need.
        _remove_unfinished(path)
        raise


def _remove_unfinished(path: Path) -> None:
    """Remove packs that a git left that died or ran out of space: with `flock.alone`, no other process uses
    them.
    """
    for pattern in ("tmp_*", ".tmp_*"):
        for unfinished in (path / "objects" / "pack").glob(pattern):
            durable.remove(unfinished)


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
        # A `git repack` of somebody else may be about to remove the packs that it listed. If the
        # new pack had the name of one of them, that repack would remove it while we remove the
        # repack's new pack.
        kept = keep.new_name()
        keep.name_pack(folder, kept, pack, idx, keeps)
    if (path / refs.PACKED_NAME).exists():
        # Left by a git that was killed here; git refuses to run while it exists.
        durable.remove(path / f"{refs.PACKED_NAME}.new")
        # A packed ref that a loose one overrides may name a commit that is removed, so write the
        # file anew. The loose refs stay, and take precedence.
        git.run("pack-refs", "--all", "--no-prune")
        durable.sync_file(path / refs.PACKED_NAME)
        durable.sync_directory(path)
    for pattern in _HELPERS:
        for file in path.glob(pattern):
            durable.remove(file)
    # Before any other pack is removed, make the new pack's name and the removal of the helpers
    # durable: after a power cut, helpers would name packs and commits that are gone.
    for named in ("pack", "info", "info/commit-graphs"):
        if (path / "objects" / named).is_dir():
            durable.sync_directory(path / "objects" / named)
    durable.failpoint("pruned-pack-durable")
    stems = {name.rpartition(".")[0] for name in os.listdir(folder) if name.startswith("pack-")}
    for stem in sorted(stems - {kept}):
        recovery.remove_pack(folder, stem)
        durable.failpoint("pack-pruned")
    for loose in (path / "objects").glob("[0-9a-f][0-9a-f]/*"):
        durable.remove(loose)
    for changed in (folder, *(path / "objects").glob("[0-9a-f][0-9a-f]")):
        durable.sync_directory(changed)
    durable.remove(path / DUE_NAME)
    durable.failpoint("pruned")


def reachable_ids(path: Path, held: int | None) -> set[bytes]:
    """The ids of all objects that refs reach, according to git.

    Args:
        held: as `flock.alone` gives it; None if nobody holds it.

    Raises:
        GitUnavailable, MaintenanceFailed: git is not there, failed or took too long.
    """
    git = Git(path, held, time.monotonic() + _TIMEOUT_S)
    said = git.run("rev-list", "--objects", "--no-object-names", "--all")
    return {bytes.fromhex(line.decode("ascii")) for line in said.split()}
