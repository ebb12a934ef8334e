"""Makes ids from another tool's names: the same ones each time, on every machine.

A UUID stands for itself. Any other name stands for the UUID of version 5 made from it under a namespace of
confkeep's own: from `TENANT`, or from `TENANT/DEVICE`.
"""

from __future__ import annotations

import uuid
from typing import Final

from confkeep.errors import InvalidId
from confkeep.ids import checked_uuid

#: The namespace of ids made from names: version 5 of the name `confkeep` under the nil UUID.
NAMESPACE: Final = uuid.uuid5(uuid.UUID(int=0), "confkeep")


def is_uuid(name: str) -> bool:
    """Whether a name stands for itself."""
    try:
        return bool(checked_uuid("name", name))
    except InvalidId:
        return False


def made_id(name: str) -> str:
    """The UUID for a name: the name itself if it is one."""
    return checked_uuid("name", name) if is_uuid(name) else str(uuid.uuid5(NAMESPACE, name))


def made_device_id(tenant: str, device: str) -> str:
    """The UUID for the device of that name in the tenant of that name; `device` may be `GROUP/DEVICE`."""
    return made_id(device if is_uuid(device) else f"{tenant}/{device}")


def naming_id(tenant_id: str, name: str) -> str:
    """The backup_id under which a tenant gets its source's name: once, so that a person's name stays."""
    return str(uuid.uuid5(NAMESPACE, f"tenant {tenant_id} {name}"))
