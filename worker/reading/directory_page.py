"""Pages of a directory: the devices that a filter lets through, sorted by name."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from worker.reading.answers import DeviceEntry, DevicesPage


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices are wanted; what is None does not matter."""

    group: str | None = None
    #: Last backed up before this moment, or never.
    seen_before: dt.datetime | None = None
    #: The configuration changed since then, or may have.
    changed_since: dt.datetime | None = None
    #: The newest version is suspect.
    suspect: bool = False
    #: Stands in the name, the address, the model, or at the beginning of the id; in any case of letters.
    text: str | None = None

    def lets_through(self, device: DeviceEntry) -> bool:
        if self.group is not None and device.group != self.group:
            return False
        seen = device.last_backup_at
        if self.seen_before is not None and seen is not None and seen >= self.seen_before:
            return False
        if self.changed_since is not None and changed_by(device) < self.changed_since:
            return False
        if self.suspect and device.suspect is None:
            return False
        if self.text is None:
            return True
        wanted = self.text.casefold()
        return device.device_id.startswith(wanted) or any(
            value is not None and wanted in value.casefold()
            for value in (device.name, device.address, device.model)
        )


def changed_by(device: DeviceEntry) -> dt.datetime:
    """When its configuration last changed; where that is not known, it was then or earlier."""
    return device.export_changed_at or device.changed_at


def place_of(device: DeviceEntry) -> tuple[str, str]:
    """Where a device stands in the order of the directory: by name, those without one last, then by id."""
    return ("\U0010ffff" if device.name is None else device.name.casefold(), device.device_id)


def page_of(
    devices: Sequence[DeviceEntry], wanted: Filter, after: tuple[str, str] | None, limit: int
) -> DevicesPage:
    """A page of the devices that are wanted.

    Args:
        devices: sorted by `place_of`.
        after: the place behind which it begins; None: at the first.
    """
    found: list[DeviceEntry] = []
    start = 0 if after is None else bisect_right(devices, after, key=place_of)
    for device in islice(devices, start, None):
        if wanted.lets_through(device):
            if len(found) == limit:
                return DevicesPage(devices=found, more=True)
            found.append(device)
    return DevicesPage(devices=found, more=False)
