"""Finds tenants and devices by the beginning of an id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from confkeep.errors import InvalidId, NotInStore
from confkeep.ids import checked_uuid
from worker.store.repository.reader import devices_of
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    require_store,
    tenants_of,
)

#: Fewest hexadecimal digits of a prefix.
MIN_PREFIX: Final = 4
#: Most candidates that an error lists.
_CANDIDATES: Final = 5

_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]*")


def find_tenant(store: Path, given: str, others: Iterable[str] = ()) -> str:
    """The tenant that `given` names: a whole UUID, known or not, or the prefix of a known one.

    Args:
        others: further known tenants, such as those with an inbox and no repository yet.

    Raises:
        InvalidId: `given` is neither, or no tenant or several begin with it.
    """
    return _whole(given) or find_one("TENANT", given, sorted({*tenants_of(store), *others}))


def find_device(repository: TenantRepository, given: str) -> str:
    """The device that `given` names: a whole UUID, known or not, or the prefix of a known one.

    Raises:
        InvalidId: `given` is neither, or no device of the newest commit or several begin with it.
    """
    return _whole(given) or find_one("DEVICE", given, devices_of(repository))


def find_device_of(store: Path, tenant_id: str, given: str) -> str:
    """As `find_device`; opens the tenant's repository only for a prefix.

    Raises:
        StoreMissing, NotInStore: a prefix, and the store or the tenant's repository is not there.
    """
    return _whole(given) or find_device(open_repository(repository_path(store, tenant_id)), given)


def open_tenant(store: Path, given: str) -> tuple[str, TenantRepository]:
    """The tenant that `given` names, and its repository.

    Raises:
        StoreMissing: the store is not there.
        InvalidId: as `find_tenant`.
        NotInStore: a whole UUID that has no repository.
    """
    require_store(store)
    tenant_id = find_tenant(store, given)
    return tenant_id, open_repository(repository_path(store, tenant_id))


def paths_of(store: Path, given: str | None) -> dict[str, Path]:
    """Tenant -> its repository's path: of the tenant that `given` names, or of all if it is None.

    Raises:
        StoreMissing: the store is not there.
        InvalidId: as `find_tenant`.
        NotInStore: the store holds no tenant; its volume may not be mounted.
    """
    require_store(store)
    tenants = tenants_of(store) if given is None else [find_tenant(store, given)]
    if not tenants:
        raise NotInStore(f"no tenant has a repository in {store}")
    return {tenant_id: repository_path(store, tenant_id) for tenant_id in tenants}


def _whole(given: str) -> str | None:
    try:
        return checked_uuid("id", given)
    except InvalidId:
        return None


def find_one(field: str, given: str, known: Sequence[str]) -> str:
    """The only one of `known` that begins with `given`; dashes may be left out.

    Raises:
        InvalidId: `given` is no prefix, or fits none or several; names `field` and some of `known`.
    """
    prefix = given.lower()
    digits = prefix.replace("-", "")
    if not _PREFIX.fullmatch(prefix) or not MIN_PREFIX <= len(digits) <= 32:
        raise InvalidId(field, f"must be a UUID, or its first {MIN_PREFIX} or more digits")
    found = [one for one in known if one.startswith(prefix) or _digits(one).startswith(digits)]
    if len(found) == 1:
        return found[0]
    kind = field.lower().replace("_", " ")
    if found:
        more = ", ..." if len(found) > _CANDIDATES else ""
        names = ", ".join(found[:_CANDIDATES])
        raise InvalidId(field, f"{prefix} begins the ids of {len(found)} {kind}s: {names}{more}")
    if not known:
        raise InvalidId(field, f"no {kind} begins with {prefix}: there are none here yet")
    more = ", ..." if len(known) > _CANDIDATES else ""
    names = ", ".join(known[:_CANDIDATES])
    raise InvalidId(field, f"no {kind} begins with {prefix}; there are {names}{more}")


def _digits(uuid_text: str) -> str:
    return uuid_text.replace("-", "")
