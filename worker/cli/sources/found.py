"""What an import found in a source."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from confkeep.errors import InvalidInput
from worker.cli.sources.captures import Capture
from worker.cli.sources.names import Names

_CaptureT = TypeVar("_CaptureT", bound=Capture)
_CaptureT_co = TypeVar("_CaptureT_co", bound=Capture, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[_CaptureT_co]):
    """What a source holds."""

    #: In the order to commit: each device's own, the devices by date of capture.
    captures: Sequence[_CaptureT_co]
    #: Names that are no UUIDs -> the id; a device stands as `TENANT/DEVICE`.
    named_ids: dict[str, str]
    #: What is in the source and is not imported, and why; a line each.
    left_out: list[str] = field(default_factory=list)
    #: What else a person should know; a line each.
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Told:
    """What a source tells besides its captures, as it is read; a line each."""

    #: What is not imported, and why.
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def interleaved(devices: Iterable[Sequence[_CaptureT]]) -> Iterator[_CaptureT]:
    """All captures by date; each device's own order is kept also where its dates go backwards."""
    # A merge never reorders what comes from one of its inputs.
    return heapq.merge(*devices, key=lambda capture: (capture.captured_at, capture.device_id))


def found_in(
    devices: Iterable[Sequence[Capture]], names: Names, told: Told, *, problem: str
) -> Found[Capture]:
    """All devices' captures, by date.

    Raises:
        InvalidInput: no device was asked for at all; `problem` says what was looked for.
    """
    captures = list(interleaved(devices))
    if not names.rows:
        raise InvalidInput(
            "DIR",
            "; ".join([problem, *told.left_out, *told.notes]),
            hint="Name the folder that holds it, or say with --from what it is.",
        )
    return Found(captures, names.made, told.left_out, told.notes)
