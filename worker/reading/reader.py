"""Who answers what people and programs ask, wherever the store is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from confkeep.errors import NotInStore, RepositoryDamaged
from worker.engine.search import Query
from worker.reading.answers import DeviceEntry, FoundEntry, TenantCounts, TenantEntry
from worker.reading.asking import TaskReader
from worker.reading.store_reader import StoreReader

#: Both have the same methods; `StoreReader` says what each answers.
Reader = StoreReader | TaskReader

#: What answers over many tenants say of one that is damaged.
DAMAGED: Final = "Its repository is damaged. `confkeep verify` says what, and how to mend it."


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
            problem=DAMAGED,
        )


def devices_so_far(reader: Reader, tenant_id: str) -> Sequence[DeviceEntry]:
    """A tenant's directory; empty as long as its first backup is not committed."""
    try:
        return reader.directory(tenant_id)
    except NotInStore:
        return []


def search_all(
    reader: Reader, tenants: Iterable[TenantEntry], query: Query, limit: int, *, reveal: bool
) -> tuple[list[FoundEntry], list[tuple[TenantEntry, RepositoryDamaged]]]:
    """Lines of the newest exports of at most `limit` devices, and the tenants that are damaged.

    Nothing is found in a tenant whose first backup is not committed.
    """
    found: list[FoundEntry] = []
    damaged: list[tuple[TenantEntry, RepositoryDamaged]] = []
    for each in tenants:
        if len(found) >= limit:
            break
        try:
            found += reader.search(each.tenant_id, query, limit - len(found), reveal=reveal)
        except NotInStore:
            pass
        except RepositoryDamaged as error:
            damaged.append((each, error))
    return found, damaged
