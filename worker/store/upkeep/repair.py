"""Rebuilds damaged files that can be derived from git.

Rebuilds or removes: the history index, an idx whose pack is intact, HEAD, the configuration (the
damaged one is kept as `config.damaged`), files of dead writers, packs without idx and idx files
without pack that no ref needs, and files that only make reading faster (multi-pack-index,
commit-graph, bitmaps, reverse indexes). Puts loose objects aside that are cut short. A damaged pack
goes when a full repack could read each object elsewhere. Damage to anything else is left for a
person, with all that is there of it.
"""

from __future__ import annotations

import errno
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confkeep.errors import ConfkeepError, MaintenanceFailed, RepositoryBusy, RepositoryDamaged
from worker.store.git import durable, flock, git_config, opening, ownership, refs
from worker.store.git.git_objects import git_for_objects
from worker.store.history.index import open_index
from worker.store.history.index_build import Progress
from worker.store.repository import id_map, recovery
from worker.store.repository.tenant_repository import open_repository
from worker.store.upkeep.repack import repack
from worker.store.upkeep.verify_report import REPAIRABLE, Finding, Kind, Report

#: The errors of the file system for a folder in the place of a file.
_FOLDERS: Final = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY)


@dataclass(slots=True)
class Repaired:
    """What a repair mended, and what it left."""

    mended: list[Finding] = field(default_factory=list)
    #: Findings that cannot be mended: what that would need is damaged too, or is the only copy.
    left: list[Finding] = field(default_factory=list)


def repair_repository(
    report: Report, progress: Progress | None = None, done: Repaired | None = None
) -> Repaired:
    """Mend the findings of a verification that can be derived from the rest.

    Args:
        report: what `verify_repository` found just now.
        progress: gets how far the rebuild of the history index is.
        done: is filled and returned; after an error it has what was mended before.

    Raises:
        NotOwner: it is another user's; nothing was changed.
        RepositoryBusy: another process writes.
        GitUnavailable: an idx or a pack is to be made, and there is no usable git.
        StoreUnavailable: there is too little free space to write the packs anew.
        OSError: the file system refused.
    """
    path = report.path
    if done is None:
        done = Repaired()
    ownership.require_writer(path)
    with flock.maintenance(path) as held, flock.exclusive(path) as alone:
        if held is None:
            raise RepositoryBusy(f"{path.name} is being repacked")
        if not alone:
            raise RepositoryBusy(f"{path.name} is being written")
        for finding in report.findings:
            mend = finding.kind in REPAIRABLE and finding.kind != Kind.INDEX
            try:
                mended = mend and _mend(path, finding)
            except OSError as error:
                # A folder in the place of a file is left for a person: it may hold something.
                if error.errno not in _FOLDERS:
                    raise
                mended = False
            (done.mended if mended else done.left).append(finding)
    index = [finding for finding in done.left if finding.kind == Kind.INDEX]
    if index and _rebuild_index(path, progress):
        done.left = [finding for finding in done.left if finding.kind != Kind.INDEX]
        done.mended += index
    # Only where nothing else is wrong: then the verification found each object sound in some file.
    if report.complete and {finding.kind for finding in done.left} == {Kind.PACK}:
        there = [finding for finding in done.left if (path / finding.place).exists()]
        # Git takes each object from a file in which it is sound, or fails, and then no pack goes.
        with suppress(MaintenanceFailed, RepositoryDamaged):
            repack(path, full=True)
        gone = [finding for finding in there if not (path / finding.place).exists()]
        done.left = [finding for finding in done.left if finding not in gone]
        done.mended += gone
    return done


def _mend(path: Path, finding: Finding) -> bool:
    file = path / finding.place
    if finding.kind == Kind.LEFTOVER:
        if finding.place == id_map.PENDING_NAME:
            id_map.settle(path)
        elif file in [*recovery.leftovers(path), *recovery.repack_leftovers(path)]:
            durable.remove(file)
        elif file in opening.cut_short(path):
            opening.put_aside(file)
        elif file.parent == path / "objects" / "pack" and _is_half(file):
            durable.remove(file)
            durable.sync_directory(file.parent)
        return not file.exists()
    if finding.kind == Kind.CONFIG:
        git_config.mend(path)
        return git_config.problem_of(path) is None
    if finding.kind == Kind.HELPER:
        durable.remove(file)
        durable.sync_directory(file.parent)
        return True
    if finding.kind == Kind.IDX:
        return _rebuild_idx(file)
    return _mend_head(path)


def _is_half(file: Path) -> bool:
    """Whether the file still is an idx without its pack, or a pack without its idx."""
    other = {".idx": ".pack", ".pack": ".idx"}.get(file.suffix)
    return other is not None and not file.with_suffix(other).exists()


def _mend_head(path: Path) -> bool:
    """Point HEAD to `main`, as in every repository of ours; returns False if there is no `main`."""
    # A damaged one is there.
    with suppress(RepositoryDamaged):
        if refs.read_main(path) is None:
            return False
    durable.replace_file(path / "HEAD", f"ref: {refs.MAIN_REF}\n".encode())
    return True


def _rebuild_idx(idx: Path) -> bool:
    """Make an idx from its pack. The damaged file is replaced, not changed."""
    made = durable.temporary_name(idx.parent, recovery.IDX_PREFIX)
    try:
        # Git would also ask the damaged idx, which may end it. A pack of ours needs no other one.
        with tempfile.TemporaryDirectory() as alone, git_for_objects(Path(alone)) as git:
            git.run(
                "index-pack", "-o", str(made.absolute()), str(idx.with_suffix(".pack").absolute())
            )
        durable.replace_file(idx, made.read_bytes())
    except MaintenanceFailed:
        return False
    finally:
        made.unlink(missing_ok=True)
    return True


def _rebuild_index(path: Path, progress: Progress | None) -> bool:
    try:
        repository = open_repository(path)
        with flock.shared(path), open_index(repository) as index:
            return index.catch_up(repository.tip(), progress, anew=True)
    except ConfkeepError:
        # Git's own data is damaged, so the finding stays.
        return False
