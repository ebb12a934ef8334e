"""Oxidized's nodes: what it calls the devices that a token may see, and how its clients name them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confkeep.errors import RepositoryDamaged
from worker.http.access import Caller
from worker.reading.answers import DeviceEntry, TenantEntry
from worker.reading.reader import Reader, devices_so_far

#: The group that lists show of a node without one.
NO_GROUP: Final = "default"
#: How oxidized-web ends a path, or a name, that asks for JSON.
_JSON: Final = ".json"


@dataclass(frozen=True, slots=True)
class Node:
    """A device as Oxidized's clients see it."""

    tenant: TenantEntry
    device: DeviceEntry
    #: The device's group, or its tenant where the token may see several; None if it has none.
    group: str | None

    @property
    def name(self) -> str:
        """What the device is called; without a name, its id."""
        return self.device.name or self.device.device_id

    @property
    def full_name(self) -> str:
        """`GROUP/NAME`, or the name alone."""
        return self.name if self.group is None else f"{self.group}/{self.name}"

    @property
    def groups(self) -> set[str]:
        """What may stand before the name."""
        tenant, group = self.tenant.name or self.tenant.tenant_id, self.device.group
        found = {tenant, self.tenant.tenant_id}
        if group is None:
            return {*found, NO_GROUP}
        return {*found, group, f"{tenant}/{group}"}

    def shown(self) -> dict[str, Any]:
        seen = self.device.last_backup_at
        last = None
        if seen is not None:
            moment = utc(seen)
            # How long the capture took is not known.
            last = {"start": moment, "end": moment, "status": "success", "time": 0.0}
        return {
            "name": self.name,
            "full_name": self.full_name,
            "ip": self.device.address or "",
            "group": self.group,
            "model": self.device.model or "",
            "last": last,
            "vars": {},
            "mtime": utc(self.device.changed_at),
        }

    def listed(self) -> dict[str, Any]:
        found = self.shown()
        last = found["last"]
        found["group"] = self.group or NO_GROUP
        found["status"] = "never" if last is None else last["status"]
        found["time"] = "never" if last is None else last["end"]
        return found


def utc(moment: dt.datetime) -> str:
    """A moment as Oxidized writes it of nodes."""
    return f"{moment.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None)} UTC"


def nodes_of(reader: Reader, caller: Caller) -> list[Node]:
    """The nodes that a caller may see, tenant by tenant. One damaged tenant hides no other one.

    Raises:
        RepositoryDamaged: there are none, and a tenant is damaged.
    """
    nodes, damage = _sound_nodes(reader, caller)
    if damage is not None and not nodes:
        raise damage
    return nodes


def find_nodes(reader: Reader, caller: Caller, given: str, group: str | None = None) -> list[Node]:
    """The nodes that a caller may see and means, as `matching` finds them.

    Raises:
        RepositoryDamaged: there are none, and a damaged tenant may have one.
    """
    nodes, damage = _sound_nodes(reader, caller)
    found = matching(nodes, given, group)
    if damage is not None and not found:
        raise damage
    return found


def _sound_nodes(reader: Reader, caller: Caller) -> tuple[list[Node], RepositoryDamaged | None]:
    """The nodes of all tenants that are not damaged, and the damage of one that is."""
    alone = caller.sees_one
    nodes: list[Node] = []
    damage: RepositoryDamaged | None = None
    for tenant in reader.tenants(caller.tenants):
        try:
            devices = devices_so_far(reader, tenant.tenant_id)
        except RepositoryDamaged as error:
            damage = error
            continue
        group = tenant.name or tenant.tenant_id
        nodes += (Node(tenant, device, device.group if alone else group) for device in devices)
    return nodes, damage


def without_json(text: str) -> str:
    """A name without a `.json` at its end. Names hold dots: no other end is cut."""
    return text.removesuffix(_JSON)


def matching(nodes: Sequence[Node], given: str, group: str | None = None) -> list[Node]:
    """The nodes that a client names, by the first of these that any node has: full name, name, address, id;
    and then the same with upper and lower case alike.

    Args:
        given: `GROUP/NAME`, or the name alone; groups, and names too, may hold slashes.
        group: the group, where it is sent apart; None or empty: any.
    """
    full = f"{group}/{given}" if group else given
    for fold in (str, str.casefold):
        for ways in _ways(full, fold):
            found = [node for node in nodes if ways(node)]
            if found:
                return found
    return []


def _ways(full: str, fold: Callable[[str], str]) -> Iterator[Callable[[Node], bool]]:
    wanted = fold(full)
    before, _, behind = wanted.rpartition("/")

    def grouped(node: Node) -> bool:
        return not before or before in map(fold, node.groups)

    yield lambda node: fold(node.full_name) == wanted
    yield lambda node: fold(node.name) == behind and grouped(node)
    yield lambda node: fold(node.name) == wanted
    yield lambda node: node.device.address == behind and grouped(node)
    yield lambda node: node.device.device_id == behind and grouped(node)
