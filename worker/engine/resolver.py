"""Finds tenants and devices by what people type: an id, its beginning, a name, or `group/name`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Final

from confkeep.errors import InvalidId, NotInStore, StoreError, StoreMissing
from confkeep.ids import checked_uuid
from confkeep.labels import MAX_LABEL_CHARACTERS, Labels
from worker.engine.directory import Called, called, names_of
from worker.store.repository import description
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
    require_store,
    tenants_of,
)

#: A beginning of an id needs so many hexadecimal digits.
MIN_PREFIX: Final = 4
#: Among the devices of at most so many tenants a mistyped tenant is looked for.
_LOOKED_AT: Final = 100
#: An error lists at most so many candidates.
_CANDIDATES: Final = 5

_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]*")


def find_tenant(
    store: Path,
    given: str,
    others: Iterable[str] = (),
    among: Collection[str] | None = None,
) -> Called:
    """The tenant that `given` names. A whole UUID need not be known.

    Args:
        others: tenants beside those of the store, such as those with an inbox and no repository yet.
        among: only these may be found, and the store is not asked for others: who may see only these learns
            of no other, not even by the time that it takes. None means all.

    Raises:
        InvalidId: it names no tenant, or several.
    """
    whole = _whole(given)
    if whole is not None and (among is None or whole in among):
        return called_tenant(store, whole)
    known = tenants(store, others, among)
    try:
        return find_known_tenant(known, given, among)
    except InvalidId as error:
        error.hint = _is_a_device(store, given, known) or error.hint
        raise


def find_known_tenant(
    known: Collection[Called], given: str, among: Collection[str] | None
) -> Called:
    """As `find_tenant`, of tenants whose names are known already.

    Raises:
        InvalidId: as `find_tenant`.
    """
    whole = _whole(given)
    if whole is not None and (among is None or whole in among):
        return next((one for one in known if one.id == whole), Called(whole))
    try:
        return _find("TENANT", given, known)
    except InvalidId as error:
        error.hint = "`confkeep history` alone lists the tenants."
        raise


def tenants(
    store: Path, others: Iterable[str] = (), among: Iterable[str] | None = None
) -> list[Called]:
    """All tenants of a store, and `others`, with their names, sorted by id; or only those of `among`."""
    ids = {*tenants_of(store), *others} if among is None else among
    return [called_tenant(store, tenant_id) for tenant_id in sorted(ids)]


def called_tenant(store: Path, tenant_id: str) -> Called:
    """A tenant and its name, whether or not it has a repository. Costs one look at a small file.

    Raises:
        InvalidId: `tenant_id` is not a UUID.
    """
    return Called(tenant_id, Labels(description.read_name(repository_path(store, tenant_id))))


def find_device(repository: TenantRepository, given: str) -> Called:
    """The device that `given` names. A whole UUID need not be known.

    Raises:
        InvalidId: it names no device of the newest commit, or several.
    """
    whole = _whole(given)
    if whole is not None:
        return called(repository, whole)
    return find_among(names_of(repository), given)


def find_among(known: Mapping[str, Called], given: str) -> Called:
    """As `find_device`, of devices whose names are known already, by id.

    Raises:
        InvalidId: as `find_device`.
    """
    whole = _whole(given)
    if whole is not None:
        return known.get(whole, Called(whole))
    try:
        return _find("DEVICE", given, known.values())
    except InvalidId as error:
        error.hint = "`confkeep devices TENANT` lists the tenant's devices."
        raise


def find_device_of(store: Path, tenant_id: str, given: str) -> Called:
    """As `find_device`, also where the tenant has no repository yet.

    Raises:
        StoreMissing, NotInStore: the store or the tenant's repository is not there, and `given` is no
            whole UUID.
    """
    try:
        return find_device(open_repository(repository_path(store, tenant_id)), given)
    except (StoreMissing, NotInStore):
        whole = _whole(given)
        if whole is None:
            raise
        return Called(whole)


def open_tenant(store: Path, given: str) -> tuple[Called, TenantRepository]:
    """The tenant that `given` names, and its repository.

    Raises:
        StoreMissing: the store is not there.
        InvalidId: as `find_tenant`.
        NotInStore: the tenant has no repository.
    """
    require_store(store)
    tenant = find_tenant(store, given)
    try:
        return tenant, open_repository(repository_path(store, tenant.id))
    except NotInStore as error:
        error.hint = _is_a_device(store, given, tenants(store)) or error.hint
        raise


def open_device(
    store: Path, tenant: str, device: str | None
) -> tuple[Called, TenantRepository, Called]:
    """A tenant, its repository and a device of it, as `open_tenant` and `find_device`.

    Args:
        device: None where only one thing was typed: then `tenant` names a device, of whatever tenant.

    Raises:
        StoreMissing, InvalidId, NotInStore: as these two; several devices of the store are called so.
    """
    if device is not None:
        found, repository = open_tenant(store, tenant)
        return found, repository, find_device(repository, device)
    require_store(store)
    known = tenants(store)
    hits, names = [], set()
    for each in known:
        # Who asks for a device wants to read of that, and not of another tenant's damage.
        with suppress(StoreError, OSError):
            repository = open_repository(repository_path(store, each.id))
            devices = names_of(repository).values()
            names |= {one.name for one in devices if one.name is not None}
            hits += [(each, repository, one) for one in _called(tenant, devices)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        listed = _some(f"{one} of tenant {each}" for each, _repository, one in hits)
        raise InvalidId(
            "DEVICE",
            f"{_typed(tenant)} names {len(hits)} devices: {listed}",
            hint="Type the tenant before the device.",
        )
    hint = "`confkeep history` alone lists the tenants, and `confkeep devices TENANT` its devices."
    if _called(tenant, known):
        hint = f"{_typed(tenant)} is a tenant: type a device of it behind."
    raise InvalidId(
        "DEVICE", f"no device is called {_typed(tenant)}{_did_you_mean(tenant, names)}", hint=hint
    )


def _is_a_device(store: Path, given: str, known: Iterable[Called]) -> str | None:
    """What to do where a tenant is expected and a device was typed; None if none is called so."""
    for tenant in islice(known, _LOOKED_AT):
        # Who typed something else wants to read of that, and not of another tenant's damage.
        with suppress(StoreError, InvalidId, OSError):
            repository = open_repository(repository_path(store, tenant.id))
            device = _find("DEVICE", given, names_of(repository).values())
            return f"Device {device} is tenant {tenant}'s: type the tenant first, then the device."
    return None


def paths_of(store: Path, given: str | None) -> dict[str, Path]:
    """The path of the repository of the tenant that `given` names, by id; with None, of all tenants.

    Raises:
        StoreMissing: the store is not there.
        InvalidId: as `find_tenant`.
        NotInStore: the store has no tenant; perhaps its volume is not mounted.
    """
    require_store(store)
    ids = tenants_of(store) if given is None else [find_tenant(store, given).id]
    if not ids:
        raise NotInStore(
            f"no tenant has a repository in {store}",
            hint="Check CONFKEEP_GIT_STORE_PATH; in a new store, `confkeep import` or `confkeep enqueue` "
            "brings in the first backups.",
        )
    return {tenant_id: repository_path(store, tenant_id) for tenant_id in ids}


def _whole(given: str) -> str | None:
    try:
        return checked_uuid("id", given)
    except InvalidId:
        return None


def find_one(field: str, given: str, known: Collection[str], listed_by: str) -> str:
    """The id of `known` that is `given`, or the only one that begins with it; dashes may be left out.

    Args:
        listed_by: the command that lists them, for the error.

    Raises:
        InvalidId: `given` is no beginning of an id, or no id or several begin with it. The error names
            `field` and some of `known`.
    """
    if given in known:
        return given
    hint = f"`{listed_by}` lists them."
    if not _is_beginning(given):
        problem = f"must be a UUID, or its first {MIN_PREFIX} or more digits"
        raise InvalidId(field, problem, hint=hint)
    try:
        return _find(field, given, [Called(one) for one in known]).id
    except InvalidId as error:
        error.hint = hint
        raise


def _find(field: str, given: str, known: Collection[Called]) -> Called:
    kind = field.lower().replace("_", " ")
    found = _called(given, known)
    given = _typed(given)
    if len(found) == 1:
        return found[0]
    if found:
        names = _some(sorted(_shown(one) for one in found))
        if all(one.id.startswith(given.lower()[:MIN_PREFIX]) for one in found):
            raise InvalidId(
                field, f"{given.lower()} begins the ids of {len(found)} {kind}s: {names}"
            )
        raise InvalidId(field, f"{given} names {len(found)} {kind}s: {names}")
    word = "begins with" if _is_beginning(given) else "is called"
    problem = f"no {kind} {word} {given}"
    if not known:
        raise InvalidId(field, f"{problem}: there are none here yet")
    names_there = {one.name for one in known if one.name is not None}
    meant = _did_you_mean(given, names_there)
    if meant:
        raise InvalidId(field, problem + meant)
    there = "there is" if len(known) == 1 else "there are"
    raise InvalidId(field, f"{problem}; {there} {_some(_shown(one) for one in known)}")


def _did_you_mean(given: str, names: Iterable[str]) -> str:
    """The end of an error: the names that come near; empty if none does."""
    close = get_close_matches(given, sorted(names), _CANDIDATES, 0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _typed(given: str) -> str:
    """What was typed, as errors repeat it."""
    return given[:MAX_LABEL_CHARACTERS] if given.isprintable() and given else ascii(given)


def _called(given: str, known: Collection[Called]) -> list[Called]:
    """Those that `given` names. If no name equals it, upper and lower case count as the same."""
    by_name = [one for one in known if given in _names(one)] or [
        one for one in known if given.casefold() in {name.casefold() for name in _names(one)}
    ]
    if not _is_beginning(given):
        return by_name
    prefix = given.lower()
    digits = _digits(prefix)
    by_id = [
        one for one in known if one.id.startswith(prefix) or _digits(one.id).startswith(digits)
    ]
    return by_name + [one for one in by_id if one not in by_name]


def _names(one: Called) -> set[str]:
    if one.name is None:
        return set()
    return {one.name} if one.labels.group is None else {one.name, f"{one.labels.group}/{one.name}"}


def _shown(one: Called) -> str:
    return f"{one.labels.group}/{one}" if one.labels.group is not None and one.name else str(one)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_CANDIDATES]) + (", ..." if len(listed) > _CANDIDATES else "")


def _is_beginning(given: str) -> bool:
    """Whether it may be the beginning of an id."""
    prefix = given.lower()
    return _PREFIX.fullmatch(prefix) is not None and MIN_PREFIX <= len(_digits(prefix)) <= 32


def _digits(uuid_text: str) -> str:
    return uuid_text.replace("-", "")
