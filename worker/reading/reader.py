"""What people and programs ask of a store, as data that goes through JSON unchanged."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from confkeep.errors import NotInStore, RepositoryDamaged
from confkeep.models import Receipt
from worker.engine.search import Query
from worker.engine.versions import Wanted
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
)
from worker.reading.directory_page import Filter
from worker.reading.store_reader import DiffHow, FileName


class Reader(Protocol):
    """What can be asked, wherever the store is. Each call may wait, so not for an event loop.

    `among` are the tenants that the asker may see (None: all); `device` is what a person types; `version`
    is a commit's id or its first digits, `latest`, `latest~N`, or a moment.

    Raises, each of them:
        InvalidId, NotInStore, RemovedByRetention: there is no such thing.
        StoreError: the store cannot be read.
        NoReceipt, BrokerUnavailable: no worker answers, where one has to be asked.
    """

    def tenants(self, among: Collection[str] | None) -> list[TenantEntry]:
        """The tenants that may be seen, sorted by id."""

    def tenant(self, given: str, among: Collection[str] | None) -> TenantEntry:
        """The tenant that a person names by an id, its beginning, or a name."""

    def entry(self, tenant_id: str) -> TenantEntry:
        """A tenant with its name, whether or not it has a repository."""

    def counts(self, tenant_id: str) -> TenantCounts:
        """A tenant with its counts; zeros if it has no repository yet."""

    def directory(self, tenant_id: str) -> Sequence[DeviceEntry]:
        """A tenant's devices, sorted by name."""

    def page(
        self, tenant_id: str, wanted: Filter, after: tuple[str, str] | None, limit: int
    ) -> DevicesPage:
        """A page of the directory, sorted by name."""

    def device(self, tenant_id: str, device: str) -> DeviceEntry:
        """One device of the directory."""

    def versions(self, tenant_id: str, device: str, wanted: Wanted) -> list[VersionEntry]:
        """A device's versions, newest first."""

    def version(self, tenant_id: str, device: str, version: str) -> VersionEntry:
        """One version."""

    def file(
        self, tenant_id: str, device: str, version: str, name: FileName, *, reveal: bool
    ) -> File:
        """A file of a version; the export is masked without `reveal`."""

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

    def since(self, tenant_id: str, device: str, version: str) -> list[Since]:
        """Of each line of a version's export, the version that brought it."""

    def commits(self, tenant_id: str, since: str | None, limit: int) -> CommitsPage:
        """The tenant's commits after one, oldest first."""

    def receipt_in(self, tenant_id: str, backup_id: str) -> Receipt | None:
        """The receipt of a backup as the tenant's repository tells it; None if it has none."""

    def receipt(self, backup_id: str, among: Collection[str] | None) -> Receipt | None:
        """The receipt of a backup as git tells it; None if no tenant of `among` has the backup."""

    def search(self, tenant_id: str, query: Query, limit: int, *, reveal: bool) -> list[FoundEntry]:
        """Lines of the newest exports of at most `limit` devices; without `reveal`, of the masked texts."""

    def let_go(self) -> None:
        """Close what was kept open for the next question."""


def counts_or_problem(reader: Reader, tenant: TenantEntry) -> TenantCounts:
    """A tenant with its counts, for a list of tenants: one damaged repository hides no other one."""
    try:
        return reader.counts(tenant.tenant_id)
    except RepositoryDamaged:
        return TenantCounts(
            tenant_id=tenant.tenant_id,
            name=tenant.name,
            devices=0,
            versions=0,
            problem="Its repository is damaged. `confkeep verify` says what, and how to mend it.",
        )


def devices_so_far(reader: Reader, tenant_id: str) -> Sequence[DeviceEntry]:
    """A tenant's directory; empty as long as its first backup is not committed."""
    try:
        return reader.directory(tenant_id)
    except NotInStore:
        return []
