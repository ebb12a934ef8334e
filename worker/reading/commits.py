"""A tenant's commits in their order, for a program that keeps a copy in step."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import Final

import pygit2
from pygit2.enums import SortMode

from confkeep.errors import NotInStore
from worker.engine.versions import captured_at, changed_devices
from worker.reading.answers import CommitEntry, CommitsPage
from worker.store.repository import headers
from worker.store.repository.headers import BACKUP_ID_HEADER, DEVICE_ID_HEADER
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: Most commits of a page.
MOST: Final = 1_000


@tells_damage
def commits_after(repository: TenantRepository, since: str | None, limit: int) -> CommitsPage:
    """The commits after one, parents first.

    Args:
        since: a commit's id; also one that a rewrite has replaced. None means from the beginning.
        limit: most commits.

    Raises:
        InvalidId, NotInStore: `since` is no commit of the history of `main`.
        RemovedByRetention: it is none any more.
    """
    tip = repository.tip()
    if tip is None:
        return CommitsPage(commits=[], head=None, more=False)
    walk = repository.git.walk(tip, SortMode.TOPOLOGICAL | SortMode.REVERSE)
    head = None
    if since is not None:
        base = find_commit(repository, since)
        if base.id != tip and not repository.git.descendant_of(tip, base.id):
            raise NotInStore(f"commit {since} is not in the history of main")
        walk.hide(base.id)
        head = str(base.id)
    found = list(islice(walk, limit + 1))
    commits = [_entry_of(commit) for commit in found[:limit]]
    return CommitsPage(
        commits=commits,
        head=commits[-1].sha if commits else head,
        more=len(found) > limit,
    )


def _entry_of(commit: pygit2.Commit) -> CommitEntry:
    raw = commit.read_raw()
    changed = changed_devices(commit)
    backup_id = headers.id_in_header(raw, BACKUP_ID_HEADER)
    labels = headers.labels_in(raw)
    kind = "naming" if headers.is_naming(raw) else "other" if backup_id is None else "backup"
    return CommitEntry.model_validate(
        {
            "sha": str(commit.id),
            "kind": kind,
            "device_id": headers.id_in_header(raw, DEVICE_ID_HEADER) or min(changed, default=None),
            "backup_id": backup_id,
            "message": headers.raw_message(raw).decode("utf-8", "replace"),
            "committed_at": dt.datetime.fromtimestamp(commit.commit_time, dt.UTC),
            "captured_at": captured_at(commit),
            "changed": bool(changed),
            "device_name": None if labels is None else labels.name,
        }
    )
