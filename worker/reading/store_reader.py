"""Answers what people and programs ask of a store that this process reaches."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pygit2

from confkeep.errors import NotInStore
from confkeep.models import Receipt
from confkeep.routeros.export import volatile_header
from worker.engine import resolver, search
from worker.engine.diff import hunks, masked_hunks
from worker.engine.directory import Called
from worker.engine.moments import version_at
from worker.engine.receipt import in_git
from worker.engine.search import Query, Searcher
from worker.engine.versions import (
    Row,
    Wanted,
    last_versions,
    no_versions,
    rows_of,
    versions_of,
)
from worker.masking.mask import mask
from worker.reading.answers import (
    CommitsPage,
    DeviceEntry,
    DevicesPage,
    DiffAnswer,
    File,
    FoundEntry,
    Since,
    TenantCounts,
    TenantEntry,
    VersionEntry,
    counts_of,
)
from worker.reading.commits import commits_after
from worker.reading.directory_page import Filter, page_of
from worker.reading.listed import Directories, Listed
from worker.reading.opened import Opened
from worker.reading.since import since_when
from worker.store.history.index import open_index
from worker.store.repository import reader
from worker.store.repository.backup import EXPORT_NAME
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import (
    TenantRepository,
    repository_path,
    require_store,
    tells_damage,
)

#: What a version is compared with: the one before it, or another one as `version_at` reads it.
PREVIOUS: Final = "previous"
#: How a text begins that names another device to compare with.
OF_DEVICE: Final = "device:"

FileName = Literal["export.rsc", "backup.bin"]

#: The end of a line that goes on, and the white space before the rest of it.
_WRAP: Final = re.compile(rb"\\\r?\n[ \t]*")


@dataclass(frozen=True, slots=True)
class DiffHow:
    """How a difference is made."""

    #: Unchanged lines around each change.
    context: int = 3
    #: Lines that a `\\` at their end continues are one line.
    joined: bool = False
    #: With the dated header line of RouterOS, which changes by itself.
    header: bool = True

    def texts(self, old: bytes, new: bytes) -> tuple[bytes, bytes]:
        """What to compare of two exports. Without the header, lines keep their numbers."""
        if not self.header:
            old_line, new_line = volatile_header(old), volatile_header(new)
            if old_line is not None and new_line is not None:
                header = new[slice(*new_line)]
                old = old[: old_line[0]] + header + old[old_line[1] :]
        if self.joined:
            return _WRAP.sub(b"", old), _WRAP.sub(b"", new)
        return old, new


class StoreReader:
    """Reads a store that this process reaches; thread-safe. Each call may wait, so not for an event loop.

    `among` are the tenants that the asker may see (None: all); `device` is what a person types; `version`
    is a commit's id or its first digits, `latest`, `latest~N`, or a moment.

    Raises, each of them:
        InvalidId, NotInStore, RemovedByRetention: there is no such thing.
        StoreError: the store cannot be read.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._directories = Directories()
        self._opened = Opened()

    def tenants(self, among: Collection[str] | None) -> list[TenantEntry]:
        """The tenants that may be seen, sorted by id."""
        if among is None:
            require_store(self._store)
        found = resolver.tenants(self._store, among=among)
        return [TenantEntry(tenant_id=each.id, name=each.name) for each in found]

    def tenant(self, given: str, among: Collection[str] | None) -> TenantEntry:
        """The tenant that a person names by an id, its beginning, or a name."""
        found = resolver.find_tenant(self._store, given, among=among)
        return TenantEntry(tenant_id=found.id, name=found.name)

    def entry(self, tenant_id: str) -> TenantEntry:
        """A tenant with its name, whether or not it has a repository."""
        found = resolver.called_tenant(self._store, tenant_id)
        return TenantEntry(tenant_id=found.id, name=found.name)

    def counts(self, tenant_id: str) -> TenantCounts:
        """A tenant with its counts; zeros if it has no repository yet."""
        called = resolver.called_tenant(self._store, tenant_id)
        try:
            devices = self.directory(tenant_id)
        except NotInStore:
            devices = []
        return counts_of(TenantEntry(tenant_id=tenant_id, name=called.name), devices)

    def directory(self, tenant_id: str) -> Sequence[DeviceEntry]:
        """A tenant's devices, sorted by name."""
        with self._open(tenant_id) as repository:
            return self._listed(repository).devices

    def page(
        self, tenant_id: str, wanted: Filter, after: tuple[str, str] | None, limit: int
    ) -> DevicesPage:
        """A page of the directory, sorted by name."""
        return page_of(self.directory(tenant_id), wanted, after, limit)

    def device(self, tenant_id: str, device: str) -> DeviceEntry:
        """One device of the directory."""
        with self._open(tenant_id) as repository:
            listed = self._listed(repository)
            called = resolver.find_among(listed.called, device)
            found = listed.by_id.get(called.id)
            if found is None:
                raise no_versions(repository, called.id)
            return found

    def versions(self, tenant_id: str, device: str, wanted: Wanted) -> list[VersionEntry]:
        """A device's versions, newest first."""
        with self._open(tenant_id) as repository:
            called = self._find(repository, device)
            rows = rows_of(repository, called.id, wanted)
            if not rows and not versions_of(repository, called.id, 1):
                raise no_versions(repository, called.id)
            return [_version_entry(row) for row in rows]

    def version(self, tenant_id: str, device: str, version: str) -> VersionEntry:
        """One version."""
        with self._open(tenant_id) as repository:
            called = self._find(repository, device)
            return _version_entry(_row_of(repository, called, version))

    def file(
        self, tenant_id: str, device: str, version: str, name: FileName, *, reveal: bool
    ) -> File:
        """A file of a version; the export is masked without `reveal`."""
        with self._open(tenant_id) as repository:
            listed = self._listed(repository)
            called = resolver.find_among(listed.called, device)
            newest = listed.by_id.get(called.id)
            if version == "latest" and newest is not None:
                sha = newest.sha
            else:
                sha = _sha_of(repository, called, version)
            folder = None
            if newest is not None and sha == newest.sha:
                folder = listed.folders.get(called.id)
            found = _file_in(repository, sha, called.id, name, folder)
            if found is None:
                # It says what is missing, and why.
                reader.read_file(repository, sha, called.id, name)
                raise NotInStore(f"no {name} of device {called.id} in commit {sha}")
            data, object_id = found
            if name == EXPORT_NAME and not reveal:
                data = mask(data, called.labels.model)
            return File(data=data, object_id=object_id, sha=sha)

    def diff(
        self,
        tenant_id: str,
        device: str,
        version: str,
        against: str,
        *,
        reveal: bool,
        how: DiffHow = DiffHow(),
    ) -> DiffAnswer:
        """The difference of a version's export from another one; masked without `reveal`."""
        with self._open(tenant_id) as repository:
            called = self._find(repository, device)
            new_sha = _sha_of(repository, called, version)
            old_sha, other = self._against(repository, called, new_sha, against)
            new = reader.read_file(repository, new_sha, called.id, EXPORT_NAME)
            old = b"" if old_sha is None else _export_in(repository, old_sha, other.id)
            old, new = how.texts(old, new)
            model, context = called.labels.model, how.context
            if reveal:
                made = hunks(old, new, context)
            elif other.id != called.id:
                # Whether two devices have the same password is nobody's to know.
                made = hunks(mask(old, other.labels.model), mask(new, model), context)
            else:
                made = masked_hunks(old, new, context, model)
            return DiffAnswer(old_sha=old_sha or "", new_sha=new_sha, hunks=made)

    def since(self, tenant_id: str, device: str, version: str) -> list[Since]:
        """Of each line of a version's export, the version that brought it."""
        with self._open(tenant_id) as repository:
            called = self._find(repository, device)
            found = since_when(repository, called.id, _sha_of(repository, called, version))
            versions = {each.id: each for each in found}
            made = {
                id_: Since(sha=each.sha, captured_at=each.captured_at)
                for id_, each in versions.items()
            }
            return [made[each.id] for each in found]

    def commits(self, tenant_id: str, since: str | None, limit: int) -> CommitsPage:
        """The tenant's commits after one, oldest first."""
        with self._open(tenant_id) as repository:
            return commits_after(repository, since, limit)

    def receipt_in(self, tenant_id: str, backup_id: str) -> Receipt | None:
        """The receipt of a backup as the tenant's repository tells it; None if it has none."""
        return self.receipt(backup_id, [tenant_id])

    def receipt(self, backup_id: str, among: Collection[str] | None) -> Receipt | None:
        """The receipt of a backup as git tells it; None if no tenant of `among` has the backup."""
        found = in_git(self._store, backup_id, among, lambda _note: None)
        return None if found is None else Receipt.of(found)

    def search(self, tenant_id: str, query: Query, limit: int, *, reveal: bool) -> list[FoundEntry]:
        """Lines of the newest exports of at most `limit` devices; without `reveal`, of the masked texts."""
        with self._open(tenant_id) as repository:
            tenant = resolver.called_tenant(self._store, tenant_id)
            tip = repository.tip()
            if tip is None:
                return []
            found: list[FoundEntry] = []
            for each in search.search(
                repository, Searcher(query), search.devices_in(repository), masked=not reveal
            ):
                found.append(
                    FoundEntry(
                        tenant_id=tenant.id,
                        tenant_name=tenant.name,
                        device_id=each.device.id,
                        name=each.device.name,
                        sha=str(tip),
                        matches=each.matches,
                    )
                )
                if len(found) == limit:
                    break
            return found

    def let_go(self) -> None:
        """Close what was kept open for the next question."""
        self._opened.close()

    def _against(
        self, repository: TenantRepository, device: Called, new_sha: str, against: str
    ) -> tuple[str | None, Called]:
        """What to compare with: a commit (None: before the first version), and the device in it."""
        if against.startswith(OF_DEVICE):
            other = self._find(repository, against.removeprefix(OF_DEVICE))
            return last_versions(repository, other.id, 1)[0].sha, other
        if against != PREVIOUS:
            return _sha_of(repository, device, against), device
        with open_index(repository) as index:
            last = index.versions(device.id, tip=new_sha, limit=2)
        return last[1].sha if len(last) > 1 else None, device

    def _find(self, repository: TenantRepository, device: str) -> Called:
        """As `find_device`, with the directory that is kept."""
        return resolver.find_among(self._listed(repository).called, device)

    def _listed(self, repository: TenantRepository) -> Listed:
        """The directory, made anew where the newest commit is another one."""
        return self._directories.get(repository)

    def _open(self, tenant_id: str) -> AbstractContextManager[TenantRepository]:
        return self._opened.open(repository_path(self._store, tenant_id))


def _version_entry(row: Row) -> VersionEntry:
    version, detail = row.version, row.detail
    return VersionEntry(
        sha=version.sha,
        backup_id=version.backup_id,
        message=version.raw_message.decode("utf-8", "replace"),
        committed_at=version.committed_at,
        captured_at=version.captured_at,
        valid_until=row.valid_until,
        export_changed=detail.export_changed,
        lines_added=detail.lines_added,
        lines_removed=detail.lines_removed,
        export_bytes=detail.export_bytes,
        binary_bytes=detail.binary_bytes,
        suspect=detail.suspect,
    )


def _sha_of(repository: TenantRepository, device: Called, version: str) -> str:
    return version_at(repository, device.id, version, field="version").sha


def _row_of(repository: TenantRepository, device: Called, version: str) -> Row:
    """The version that was the newest one as of a commit: the commit itself, if it changed the device."""
    sha = _sha_of(repository, device, version)
    with open_index(repository) as index:
        found = index.versions(device.id, tip=sha, limit=1, details=True)
        if not found:
            raise NotInStore(f"no version of device {device.id} in commit {sha}")
        until = index.next_version(device.id, found[0].sha, tip=repository.tip())
    return Row(found[0], None if until is None else until.captured_at)


@tells_damage
def _file_in(
    repository: TenantRepository,
    sha: str,
    device_id: str,
    name: str,
    folder_id: str | None,
) -> tuple[bytes, str] | None:
    """A file of a commit with its object's id; None if the commit does not hold it.

    Args:
        folder_id: the device's folder, where it is known; None: look it up in the commit.
    """
    if folder_id is None:
        tree = find_commit(repository, sha).tree
        if device_id not in tree:
            return None
        folder_id = str(tree[device_id].id)
    folder = repository.git[folder_id]
    if not isinstance(folder, pygit2.Tree) or name not in folder:
        return None
    found = folder[name]
    return (found.data, str(found.id)) if isinstance(found, pygit2.Blob) else None


def _export_in(repository: TenantRepository, sha: str, device_id: str) -> bytes:
    return reader.read_pair(repository, find_commit(repository, sha), device_id).export or b""
