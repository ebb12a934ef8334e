"""What an import found in a source."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from confkeep.errors import InvalidInput
from worker.cli.sources.captures import Capture
from worker.cli.sources.names import Names


@dataclass(slots=True)
class Found:
    """What a source holds."""

    #: In the order to commit: each device's own, the devices by date of capture.
    captures: list[Capture] = field(default_factory=list)
    #: Names that are no UUIDs -> the id; a device stands as `TENANT/DEVICE`.
    named_ids: dict[str, str] = field(default_factory=dict)
    #: What is in the source and is not imported, and why; a line each.
    left_out: list[str] = field(default_factory=list)
    #: What else a person should know; a line each.
    notes: list[str] = field(default_factory=list)

    def add(self, devices: Iterable[Sequence[Capture]], names: Names, *, problem: str) -> None:
        """Add all devices' captures, by date.

        Raises:
            InvalidInput: no device was asked for at all; `problem` says what was looked for.
        """
        self.captures += interleaved(devices)
        if not names.rows:
            raise InvalidInput(
                "DIR",
                "; ".join([problem, *self.left_out, *self.notes]),
                hint="Name the folder that holds it, or say with --from what it is.",
            )
        self.named_ids = names.made


def interleaved(devices: Iterable[Sequence[Capture]]) -> Iterator[Capture]:
    """All captures by date; each device's own order is kept also where its dates go backwards."""
    # A merge never reorders what comes from one of its inputs.
    return heapq.merge(*devices, key=lambda each: (each.captured_at, each.row.device_id))
