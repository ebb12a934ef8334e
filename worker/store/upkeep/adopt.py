"""Takes over, in place, bare tenant repositories that something else wrote.

Points HEAD to `main`; if there is no `main`, creates it where HEAD's branch is. Builds the history
index and verifies everything. Packs loose objects only when asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from worker.store.git import flock, ownership
from worker.store.git.durable import file_system_errors
from worker.store.git.git_objects import loose_ids
from worker.store.git.git_process import Progress
from worker.store.history.index import open_index
from worker.store.repository import reader
from worker.store.repository.tenant_repository import create_repository, damage, open_repository
from worker.store.upkeep.repack import repack
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Report


@dataclass(frozen=True, slots=True)
class State:
    """The state of a repository."""

    #: What HEAD names: a ref, or a commit's id when it is detached.
    head: str
    #: The newest commit; None if there is none.
    tip: str | None
    commits: int
    devices: int
    #: How many loose objects there are.
    loose_objects: int
    packs: int
    #: Whether the history index exists and is complete.
    indexed: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """A repository before and after, and what its verification found."""

    before: State
    after: State
    report: Report


def look(path: Path) -> State:
    """A repository's state; changes nothing.

    Raises:
        NotInStore, RepositoryDamaged: it is not there, or git cannot read it.
        StoreUnavailable: the file system refused.
    """
    with file_system_errors(path.name):
        repository = open_repository(path)
        tip = repository.tip()
        with damage(path):
            commits = 0 if tip is None else sum(1 for _ in repository.git.walk(tip))
        with open_index(repository) as index:
            indexed = index.is_complete(tip)
        return State(
            head=(path / "HEAD").read_text("ascii", "replace").strip().removeprefix("ref: "),
            tip=None if tip is None else str(tip),
            commits=commits,
            devices=len(reader.devices_of(repository)),
            loose_objects=sum(1 for _ in loose_ids(path)),
            packs=sum(name.endswith(".pack") for name in os.listdir(path / "objects" / "pack")),
            indexed=indexed,
        )


def adopt(path: Path, *, pack: bool = False, progress: Progress | None = None) -> Adopted:
    """Take over the repository at `path`. May be repeated, and may run beside workers.

    Args:
        pack: put loose objects into packs, as `worker.store.upkeep.repack` does.

    Raises:
        NotInStore: there is no repository.
        NotOwner: it is another user's; nothing was changed.
        StoreUnavailable: the file system refused.
        GitUnavailable, MaintenanceFailed, RepositoryBusy: with `pack`, as `repack`.
        RepositoryDamaged: git cannot read it. Lesser damage stands in the report.
    """
    ownership.require_writer(path)
    before = look(path)
    repository = create_repository(path)
    with file_system_errors(path.name):
        if pack:
            repack(path)
        tell = progress or (lambda _what, _done, _total: None)
        with flock.shared(path), open_index(repository) as index:
            index.catch_up(repository.tip(), lambda done, total: tell("commits", done, total))
    report = verify_repository(path, progress=progress)
    return Adopted(before, look(path), report)
