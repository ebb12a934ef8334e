"""Events of commits: made of a commit, by the batch that wrote it or by a reader who goes through git."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confkeep.errors import NotInStore
from confkeep.event_reader import Commits
from confkeep.labels import LABEL_NAMES, NO_LABELS
from confkeep.models import Receipt
from confkeep.queue import events
from confkeep.queue.events import Event
from worker.engine.receipt import fields_of
from worker.engine.versions import device_of
from worker.store.git import refs
from worker.store.history.index import HistoryIndex, open_index
from worker.store.repository.backup import Committed
from worker.store.repository.headers import BACKUP_ID_HEADER, id_in_header
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    require_store,
    tenants_of,
)
from worker.store.writing.commit import describe_commit


def event_of(
    tenant_id: str, committed: Committed, receipt: Mapping[str, Any] | None = None
) -> Event:
    """The event of a commit.

    Args:
        receipt: its receipt as JSON values, if that is at hand.
    """
    if receipt is None:
        receipt = Receipt(**fields_of(tenant_id, committed)).model_dump(mode="json")
    labels = committed.labels or NO_LABELS
    data = {
        **receipt,
        "labels": dict(zip(LABEL_NAMES, labels.values(), strict=True)),
        "parent_sha": committed.parent,
    }
    return events.new(
        events.RENAMED if committed.naming else events.COMMITTED,
        tenant_id,
        committed.device_id,
        data=data,
        about=(committed.backup_id,),
        at=committed.committed_at,
    )


class LocalGit:
    """Answers from the repositories of a store (`confkeep.event_reader.Git`)."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def tenants(self) -> list[str]:
        """The ids of all tenants that have a repository.

        Raises:
            StoreMissing: the store's folder is not there.
        """
        require_store(self._store)
        return tenants_of(self._store)

    def after(
        self, tenant_id: str, seen: str | None, since_s: int, upto: str | None, limit: int
    ) -> Commits | None:
        """A tenant's commits after one, as `confkeep.event_reader.Git` says."""
        path = repository_path(self._store, tenant_id)
        if upto is None and seen is not None and path.is_dir():
            main = refs.read_main(path)
            # Most tenants have nothing new when a reader goes through all of them.
            if main is not None and main.startswith(seen):
                return Commits([], done=True)
        try:
            repository = open_repository(path)
        except NotInStore:
            return Commits([], done=True) if upto is None else None
        tip = repository.tip() if upto is None else _resolved(repository, upto)
        if upto is not None and tip is None:
            return None
        with open_index(repository) as index:
            shas = None
            known = None if seen is None else _resolved(repository, seen)
            if known is not None:
                shas = index.commits_after(known, tip=tip, limit=limit + 1)
            if shas is None:
                shas = index.commits_after(None, tip=tip, since_s=since_s, limit=limit + 1) or []
            found = [_commit(tenant_id, repository, index, sha) for sha in shas[:limit]]
        return Commits(found, done=len(shas) <= limit)


def _resolved(repository: TenantRepository, sha: str) -> Any:
    """The present id of a commit, which a rewrite may have changed; None if it is not there any more."""
    try:
        return find_commit(repository, sha).id
    except NotInStore:
        return None


def _commit(
    tenant_id: str, repository: TenantRepository, index: HistoryIndex, sha: str
) -> tuple[str, int, Event | None]:
    commit = find_commit(repository, sha)
    event = None
    if id_in_header(commit.read_raw(), BACKUP_ID_HEADER) is not None:
        found = describe_commit(repository, index, commit, device_of(commit) or "")
        event = event_of(tenant_id, found)
    return sha, commit.commit_time, event
