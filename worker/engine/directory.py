"""A tenant's directory: its devices, their labels, and when each was last seen and changed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from confkeep.errors import StoreError
from confkeep.labels import NO_LABELS, Labels
from worker.store.history.index import open_index
from worker.store.repository.backup import Version
from worker.store.repository.reader import devices_of, folders_of
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    tells_damage,
)

#: Digits of an id behind a name.
SHORT_ID: Final = 8


# Not frozen, which takes several times as long to make: a directory has thousands.
@dataclass(slots=True)
class Called:
    """A device, or a tenant, and what people call it."""

    id: str
    labels: Labels = NO_LABELS
    #: The name in the device's newest export; None if there is none.
    own_name: str | None = None

    @property
    def name(self) -> str | None:
        """The label; without one, the name in the export; None if there is neither."""
        return self.labels.name or self.own_name

    @property
    def short(self) -> str:
        """The first digits of the id."""
        return self.id[:SHORT_ID]

    def json(self, kind: Literal["tenant", "device"]) -> dict[str, str | None]:
        """Its id and name as JSON values, such as `tenant_id` and `tenant_name`."""
        return {f"{kind}_id": self.id, f"{kind}_name": self.name}

    def __str__(self) -> str:
        """The name with the first digits of the id behind it; without a name the id."""
        return self.id if self.name is None else f"{self.name} ({self.short})"


@dataclass(slots=True)
class Device:
    """A device of the newest commit."""

    called: Called
    #: The number of its versions.
    versions: int
    #: The newest version.
    last: Version
    #: When it was last backed up, changed or not; None if git does not tell.
    seen_at: dt.datetime | None
    #: Git's id of its folder in the newest commit.
    folder: str


@tells_damage
def names_of(repository: TenantRepository) -> dict[str, Called]:
    """What the devices of the newest commit are called, by id."""
    known = all_names(repository)
    return {device: known.get(device) or Called(device) for device in devices_of(repository)}


@tells_damage
def all_names(repository: TenantRepository) -> dict[str, Called]:
    """What devices are or were called, by id: also those that the newest commit has no more."""
    tip = repository.tip()
    with open_index(repository) as index:
        labels, own_names = index.labels(tip), index.own_names(tip)
    return {
        device: Called(device, labels.get(device, NO_LABELS), own_names.get(device))
        for device in {*labels, *own_names}
    }


def names_at(path: Path) -> dict[str, Called]:
    """As `all_names`, of the repository at `path`; nothing where it cannot be read.

    For what shows names beside ids: names only help to read, and whoever needs the repository tells what is
    wrong with it.
    """
    try:
        return all_names(open_repository(path))
    except (StoreError, OSError):
        return {}


@tells_damage
def called(repository: TenantRepository, device_id: str) -> Called:
    """What people call a device. An unknown device has an id and no labels."""
    tip = repository.tip()
    with open_index(repository) as index:
        labels = index.labels(tip, [device_id]).get(device_id, NO_LABELS)
        own_name = None if labels.name else index.own_names(tip, [device_id]).get(device_id)
    return Called(device_id, labels, own_name)


@tells_damage
def directory_of(repository: TenantRepository) -> list[Device]:
    """The devices of the newest commit, the last changed one first."""
    tip = repository.tip()
    names, folders = all_names(repository), folders_of(repository)
    with open_index(repository) as index:
        found, seen = index.devices(tip), index.all_last_seen(tip)
    return [
        Device(names.get(device) or Called(device), *row, seen.get(device), folder)
        for device, row in found.items()
        if (folder := folders.get(device)) is not None
    ]


@tells_damage
def last_changes(repository: TenantRepository) -> dict[str, dt.datetime]:
    """When the configurations of devices last changed, by id; without those of which the index does not know it."""
    with open_index(repository) as index:
        return index.last_changes(repository.tip())


@tells_damage
def suspects(repository: TenantRepository) -> dict[str, str]:
    """Why the newest versions of devices are suspect, by id; without those of which the index does not know it."""
    with open_index(repository) as index:
        return index.suspects(repository.tip())
