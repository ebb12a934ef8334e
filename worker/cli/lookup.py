"""From what a person types to ids: tenants and devices by unambiguous prefix; it only reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from worker.errors import InvalidId
from worker.ids import checked_uuid
from worker.store.reader import devices_of
from worker.store.repository import (
    TenantRepository,
    open_repository,
    repository_path,
    tenants_of,
)

#: Least hexadecimal digits of a prefix.
MIN_PREFIX: Final = 4
#: Most candidates that an error lists.
_CANDIDATES: Final = 5

_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]*")


def find_tenant(store: Path, given: str) -> str:
    """The tenant that `given` names: a whole UUID as it is, known or not, or a prefix of one.

    Raises:
        InvalidId: neither, or a prefix of none or of several tenants of the store.
    """
    return _whole(given) or _by_prefix("TENANT", given, tenants_of(store))


def find_device(repository: TenantRepository, given: str) -> str:
    """The device that `given` names: a whole UUID as it is, known or not, or a prefix of one.

    Raises:
        InvalidId: neither, or a prefix of none or of several devices of the newest commit.
    """
    return _whole(given) or _by_prefix("DEVICE", given, devices_of(repository))


def find_device_of(store: Path, tenant_id: str, given: str) -> str:
    """As `find_device`; opens the tenant's repository only for a prefix.

    Raises:
        NotInStore: a prefix, and the tenant has no repository.
    """
    return _whole(given) or find_device(open_repository(repository_path(store, tenant_id)), given)


def open_tenant(store: Path, given: str) -> tuple[str, TenantRepository]:
    """The tenant that `given` names, and its repository.

    Raises:
        InvalidId: as `find_tenant`.
        NotInStore: a whole UUID that has no repository.
    """
    tenant_id = find_tenant(store, given)
    return tenant_id, open_repository(repository_path(store, tenant_id))


def _whole(given: str) -> str | None:
    try:
        return checked_uuid("id", given)
    except InvalidId:
        return None


def _by_prefix(field: str, given: str, known: Sequence[str]) -> str:
    prefix = given.lower()
    digits = prefix.replace("-", "")
    if not _PREFIX.fullmatch(prefix) or not MIN_PREFIX <= len(digits) <= 32:
        raise InvalidId(field, f"must be a UUID, or its first {MIN_PREFIX} or more digits")
    found = [one for one in known if one.startswith(prefix) or _digits(one).startswith(digits)]
    if len(found) == 1:
        return found[0]
    kind = field.lower()
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
