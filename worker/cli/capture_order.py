"""Finds the order in which a device's exports were captured, by their names, headers and file times.

Where two orders remain possible, `InvalidInput` names both. A guess could put an older version on top
of a newer one, and `show` and `restore` would then give the older one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confkeep.errors import InvalidInput
from confkeep.models import LATEST_CAPTURE
from worker.cli.capture_dates import (
    CERTAIN,
    DAY_FIRST,
    EARLIEST,
    HEADER_BYTES,
    MONTH_FIRST,
    date_in_header,
    dates_in_name,
    has_time,
)

#: The ways to tell a device's older export from a newer one; see `order_of`.
ORDERS: Final = (CERTAIN, DAY_FIRST, MONTH_FIRST, "number", "header", "mtime", "name")

#: A name of at least this many digits may be a date with a year of two digits.
_DATE_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Export:
    """An export's file and what it says of its date."""

    path: Path
    #: The dates that its name may mean, by reading.
    named: dict[str, dt.datetime]
    #: The date in its header; None if there is none.
    header: dt.datetime | None
    #: When the file was changed, to the second.
    changed: dt.datetime
    #: The part of its path that may say a date.
    said: str

    def named_date(self, reading: str) -> dt.datetime | None:
        """The date in the name; the header's date if it is the same day and the name has no time."""
        date = self.named.get(CERTAIN) or self.named.get(reading)
        if date is None or self.header is None or has_time(self.said):
            return date
        return self.header if self.header.date() == date.date() else date


def read_export(path: Path, said: str | None) -> Export:
    """Read what an export says of its date: `said`, or without it its name, and the start of the file.

    Raises:
        OSError: the file system refused.
    """
    said = path.stem if said is None else said
    with path.open("rb") as file:
        header = date_in_header(file.read(HEADER_BYTES))
    changed = dt.datetime.fromtimestamp(int(path.stat().st_mtime), dt.UTC)
    return Export(path, dates_in_name(said), header, changed, said)


def readings_of(exports: Iterable[Export]) -> list[str]:
    """The readings in which every name is a date; only `CERTAIN` if all names have it."""
    found = list(exports)
    if all(CERTAIN in export.named for export in found):
        return [CERTAIN]
    return [
        reading
        for reading in (DAY_FIRST, MONTH_FIRST)
        if all(CERTAIN in export.named or reading in export.named for export in found)
    ]


def order_of(exports: Sequence[Export], known: Iterable[str] = ()) -> str:
    """The one of `ORDERS` that fits a device's exports.

    The dates in the names, if all have one. If day and month may be swapped, the headers decide, or
    the names of other devices of the same source. Otherwise the numbers, if all names are numbers;
    otherwise the dates in the headers, if all have one; otherwise the times of the files.

    Args:
        known: the readings in which names of other devices are dates.

    Raises:
        InvalidInput: two orders remain.
    """
    readings = readings_of(exports)
    if len(readings) > 1:
        readings = _decided(exports, readings, set(known))
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise _ambiguous(exports, *readings)
    if all(export.path.stem.isdecimal() for export in exports):
        if any(len(export.path.stem) >= _DATE_DIGITS for export in exports) and _contradict(
            exports, "number", "header"
        ):
            raise _ambiguous(exports, "number", "header")
        return "number"
    if all(export.header is not None for export in exports):
        return "header"
    if len({export.changed for export in exports}) < len(exports):
        raise _ambiguous(exports, "mtime", "name")
    return "mtime"


def _decided(exports: Sequence[Export], readings: list[str], known: set[str]) -> list[str]:
    """The readings that headers and other devices' names leave possible."""
    if all(export.named[DAY_FIRST] == export.named[MONTH_FIRST] for export in exports):
        return readings[:1]
    agreeing = [
        reading
        for reading in readings
        if any(export.header for export in exports)
        and all(_agrees(export, reading) for export in exports)
    ]
    if len(agreeing) == 1:
        return agreeing
    return [reading for reading in readings if reading in known] if len(known) == 1 else readings


def _agrees(export: Export, reading: str) -> bool:
    date = export.named.get(CERTAIN) or export.named[reading]
    # The poller's clock, or time zone, need not be the device's.
    return export.header is None or abs(export.header - date) < dt.timedelta(days=2)


def _contradict(exports: Sequence[Export], one: str, other: str) -> bool:
    if any(export.header is None for export in exports):
        return False
    return sort(exports, one) != sort(exports, other)


def _ambiguous(exports: Sequence[Export], one: str, other: str) -> InvalidInput:
    newest = [sort(exports, order)[-1].path for order in (one, other)]
    folder = newest[0].parent.name
    if one == DAY_FIRST:
        example = next(e for e in exports if e.named[one] != e.named[other])
        text = (
            f"{folder}/{example.path.name} may be of {example.named[one]:%Y-%m-%d} or of "
            f"{example.named[other]:%Y-%m-%d}: say which with --order {one} or --order {other}"
        )
    elif one == "mtime":
        text = (
            f"nothing tells in which order {len(exports)} exports of {folder} were captured: no dates "
            "in names or headers, and files of the same time. Rename them by date or number, or take "
            "them by name with --order name"
        )
    else:
        text = (
            f"the newest export of {folder} is {newest[0].name} by the numbers in the names and "
            f"{newest[1].name} by the dates in the headers: say which with --order {one} or "
            f"--order {other}"
        )
    return InvalidInput("DIR", text)


def sort(exports: Iterable[Export], order: str) -> list[Export]:
    """The exports, oldest first."""
    return sorted(exports, key=_SORT_KEYS[order])


def captured_at(exports: Sequence[Export], order: str) -> list[dt.datetime]:
    """When each of a device's exports was captured; `exports` are sorted by `order`.

    The date in its name, otherwise the one in its header, otherwise the file's time, which may be
    that of a copy; so it is not taken as later than the next export.
    """
    dates: list[dt.datetime] = []
    for export in reversed(exports):
        when = export.named_date(order) or export.header
        if when is None:
            when = min(max(export.changed, EARLIEST), dates[-1] if dates else LATEST_CAPTURE)
        dates.append(when)
    return dates[::-1]


def _natural(stem: str) -> list[tuple[int, str]]:
    """A sort key that puts `router10` behind `router9`."""
    parts = re.findall(r"\d+|\D+", stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _by_date(reading: str) -> Callable[[Export], Any]:
    return lambda export: (export.named_date(reading) or EARLIEST, _natural(export.path.stem))


#: Order -> the sort key of a device's exports.
_SORT_KEYS: Final[dict[str, Callable[[Export], Any]]] = {
    **{reading: _by_date(reading) for reading in (CERTAIN, DAY_FIRST, MONTH_FIRST)},
    "number": lambda export: _natural(export.path.stem),
    "header": lambda export: (export.header or EARLIEST, _natural(export.path.stem)),
    "mtime": lambda export: (export.changed, _natural(export.path.stem)),
    "name": lambda export: _natural(export.path.stem),
}
