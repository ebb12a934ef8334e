"""Names of devices, for tables that get only their ids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from confkeep.errors import ConfkeepError
from confkeep.settings import get_settings
from worker.cli.terminal import printable
from worker.engine.directory import SHORT_ID, Called, names_of
from worker.store.repository.tenant_repository import open_repository, repository_path

#: How many tenants' names one command remembers.
_TENANTS = 64


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
    found = {} if tenant_id is None else _names(get_settings().git_store_path, tenant_id)
    return printable(str(found.get(device_id, Called(device_id))))


@lru_cache(_TENANTS)
def _names(store: Path, tenant_id: str) -> Mapping[str, Called]:
    try:
        return names_of(open_repository(repository_path(store, tenant_id)))
    except (ConfkeepError, OSError):
        # A name only helps to read. The code that needs the repository reports what is wrong with it.
        return {}
