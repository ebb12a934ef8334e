"""A tenant's devices and their versions: what each changed, when, and its files."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Final

import pygit2

from confkeep.errors import NotInStore
from worker.store.history.index import HistoryIndex, open_index
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, Detail, Version, checked_uuid
from worker.store.repository.headers import DEVICE_ID_HEADER, id_in_header
from worker.store.repository.reader import Pair, find_commit, read_pair
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: Versions that are read at once to choose among them by date.
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Row:
    """A version as `confkeep history` lists it."""

    version: Version
    #: When the next version was captured; None for the newest.
    valid_until: dt.datetime | None = None

    @property
    def detail(self) -> Detail:
        """What the version's files tell: every listed one was asked for with it."""
        assert self.version.detail is not None
        return self.version.detail

    @property
    def removed(self) -> bool:
        """The device is not in this version any more."""
        return self.detail.export_bytes is None and self.detail.binary_bytes is None


@tells_damage
def versions_of(
    repository: TenantRepository,
    device_id: str,
    count: int | None = None,
    *,
    details: bool = False,
) -> list[Version]:
    """A device's versions, newest first; none if it has none.

    Args:
        count: at most so many; None: all.
        details: with what each changed and how large it is.

    Raises:
        InvalidId: the device's id is no UUID.
        RepositoryDamaged: git itself cannot be read.
    """
    with open_index(repository) as index:
        return index.versions(device_id, tip=repository.tip(), limit=count, details=details)


def last_versions(repository: TenantRepository, device_id: str, count: int) -> list[Version]:
    """As `versions_of`.

    Raises:
        NotInStore: the device has none.
    """
    found = versions_of(repository, device_id, count)
    if not found:
        raise no_versions(repository, device_id)
    return found


def no_versions(repository: TenantRepository, device_id: str) -> NotInStore:
    """The error for a device that a tenant's repository does not know."""
    return NotInStore(
        f"no version of device {device_id} in {repository.path.name}",
        hint="`confkeep devices TENANT` lists the tenant's devices.",
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of a device's versions are asked for."""

    #: At most so many; None: all.
    limit: int | None = None
    #: The full or abbreviated id of a version: only those that are older in the list.
    before: str | None = None
    #: Only versions captured before the first moment, and not before the second.
    captured_before: dt.datetime | None = None
    captured_since: dt.datetime | None = None
    #: Only those whose export differs in more than volatile lines.
    config_changes_only: bool = False


@tells_damage
def rows_of(repository: TenantRepository, device_id: str, wanted: Wanted) -> list[Row]:
    """A device's versions with what each changed, newest first.

    Raises:
        InvalidId, NotInStore: `before` is no version of the device.
    """
    with open_index(repository) as index:
        tip = repository.tip()
        since, until = wanted.captured_since, wanted.captured_before
        if since is None and until is None:
            return _page(repository, index, device_id, tip, wanted)
        before = wanted.before
        if until is not None:
            before = _last_not_before(index, device_id, tip, until)
        size = wanted.limit or _PAGE
        rows: list[Row] = []
        # Dates are as a rule in order; those that are not are left out one by one.
        while True:
            page = _page(
                repository, index, device_id, tip, replace(wanted, before=before, limit=size)
            )
            found = [
                row
                for row in page
                if (until is None or row.version.captured_at < until)
                and (since is None or row.version.captured_at >= since)
            ]
            rows += found
            is_past = since is not None and not found
            if is_past or len(page) < size or len(rows) >= (wanted.limit or len(rows) + 1):
                return rows[: wanted.limit]
            before = page[-1].version.sha


def _page(
    repository: TenantRepository,
    index: HistoryIndex,
    device_id: str,
    tip: pygit2.Oid | None,
    wanted: Wanted,
) -> list[Row]:
    rows: list[Row] = []
    above = None
    if wanted.before is not None:
        above = captured_at(find_commit(repository, wanted.before))
    for version in index.versions(
        device_id,
        tip=tip,
        limit=wanted.limit,
        before=wanted.before,
        config_changes_only=wanted.config_changes_only,
        details=True,
    ):
        rows.append(Row(version, above))
        above = version.captured_at
    return rows


def _last_not_before(
    index: HistoryIndex,
    device_id: str,
    tip: pygit2.Oid | None,
    date: dt.datetime,
) -> str | None:
    """The next version after the newest one captured before a date; None if there is none."""
    above = None
    for version in index.versions(device_id, tip=tip):
        if version.captured_at < date:
            break
        above = version.sha
    return above


def captured_at(commit: pygit2.Commit) -> dt.datetime:
    """A commit's author date."""
    return dt.datetime.fromtimestamp(commit.author.time, dt.UTC)


@tells_damage
def pair_at(repository: TenantRepository, device_id: str, sha: str) -> tuple[pygit2.Commit, Pair]:
    """Both files of a device as of a commit.

    Raises:
        InvalidId: `sha` is no commit id.
        NotInStore: no such commit, or it does not hold the device.
    """
    commit = find_commit(repository, sha)
    pair = read_pair(repository, commit, checked_uuid("device_id", device_id))
    if pair == Pair(None, None):
        raise NotInStore(f"no {EXPORT_NAME} or {BINARY_NAME} of device {device_id} in {sha}")
    return commit, pair


def device_of(commit: pygit2.Commit) -> str | None:
    """The device that a commit is about, by its header or by what it changed; None if it is about none."""
    own = id_in_header(commit.read_raw(), DEVICE_ID_HEADER)
    return own or min(changed_devices(commit), default=None)


def changed_devices(commit: pygit2.Commit) -> set[str]:
    """The devices that a commit changed against its first parent."""
    parents = commit.parents
    if parents and parents[0].tree_id == commit.tree_id:
        return set()
    own = id_in_header(commit.read_raw(), DEVICE_ID_HEADER)
    if own is not None:
        return {own}
    # Written by something else than confkeep: compare the trees.
    diff = (
        commit.tree.diff_to_tree(parents[0].tree, swap=True)
        if parents
        else commit.tree.diff_to_tree(swap=True)
    )
    paths = (delta.new_file.path or delta.old_file.path for delta in diff.deltas)
    return {path.split("/", 1)[0] for path in paths}
