"""What tenants and devices are called, for output that has their ids from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from confkeep.errors import InvalidId
from confkeep.labels import Labels
from confkeep.settings import get_settings
from worker.cli.terminal import count_text, printable
from worker.engine.directory import SHORT_ID, Called, names_at
from worker.engine.resolver import called_tenant
from worker.store.repository.tenant_repository import repository_path

#: Tenants whose devices' names one command keeps.
_TENANTS = 256


def device_text(tenant_id: str | None, device_id: str | None, name: str | None = None) -> str:
    """A device for a person: its name with the first digits of its id behind it, or the id.

    Args:
        name: what it is called, if the caller knows; None: look it up in the store, if there is one
            here that can be read.
    """
    if device_id is None:
        return "unknown"
    if name is not None:
        return printable(f"{name} ({device_id[:SHORT_ID]})")
    return printable(str(called_device(tenant_id, device_id)))


def device_name(tenant_id: str, device_id: str | None) -> str | None:
    """What a device is called, for `--json`; None if it has no name, or the store cannot be read."""
    return None if device_id is None else called_device(tenant_id, device_id).name


def tenant_text(tenant_id: str) -> str:
    """A tenant for a person: its name with the first digits of its id behind it, or the id."""
    return printable(str(Called(tenant_id, Labels(tenant_name(tenant_id)))))


def tenants_text(tenant_ids: Sequence[str]) -> str:
    """`tenant` and the only one of them, or how many they are."""
    if len(tenant_ids) == 1:
        return f"tenant {tenant_text(tenant_ids[0])}"
    return count_text(len(tenant_ids), "tenant")


def tenant_name(tenant_id: str) -> str | None:
    """What a tenant is called, for `--json`; None if it has no name, or none is known here.

    Args:
        tenant_id: may be what somebody else wrote into Redis; what is no id has no name.
    """
    try:
        return called_tenant(get_settings().git_store_path, tenant_id).name
    except InvalidId:
        return None


def tenant_json(tenant_id: str) -> dict[str, str | None]:
    """A tenant's id and name, for `--json`."""
    return {"tenant_id": tenant_id, "tenant_name": tenant_name(tenant_id)}


def called_device(tenant_id: str | None, device_id: str) -> Called:
    """A device and its names; the id alone where the store knows none, or cannot be read."""
    found = {} if tenant_id is None else _names(get_settings().git_store_path, tenant_id)
    return found.get(device_id, Called(device_id))


@lru_cache(_TENANTS)
def _names(store: Path, tenant_id: str) -> Mapping[str, Called]:
    try:
        return names_at(repository_path(store, tenant_id))
    except InvalidId:
        return {}
