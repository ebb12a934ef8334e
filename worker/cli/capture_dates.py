"""Reads when an export was captured, from its name and its header line.

A name may have several readings: `05-03-2024` is a day in March or in May. All are returned, and
`worker.cli.capture_order` decides. Dates are taken as UTC; those before 2000 come from a device
without a clock and are ignored.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from confkeep.models import LATEST_CAPTURE

#: A date that can be read in one way only: the year first, or the month by its name.
CERTAIN: Final = "date"
DAY_FIRST: Final = "day-first"
MONTH_FIRST: Final = "month-first"

#: How many bytes of an export to search for its header: pollers put the output of other commands
#: before it.
HEADER_BYTES: Final = 16 * 1024

EARLIEST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

_LONG_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTHS: Final = tuple(name[:3] for name in _LONG_MONTHS)
_MONTH: Final = f"(?P<name>{'|'.join([*_LONG_MONTHS, 'sept', *_MONTHS])})"
#: What stands between a date and a name.
_SIGNS: Final = "-_. @()[]"
_TIME: Final = (
    r"(?:[-_. T]*(?P<hour>[01]\d|2[0-3])[-_.:hH]?(?P<minute>[0-5]\d)"
    r"(?:[-_.:mM]?(?P<second>[0-5]\d))?)?(?!\d)"
)
_YEAR: Final = r"(?P<year>(?:19|20)\d\d)"
_YEAR_FIRST = re.compile(rf"(?<!\d){_YEAR}([-_. ]?)(?P<month>\d\d)\2(?P<day>\d\d){_TIME}")
_YEAR_LAST = re.compile(
    # Without anything between them, day and month have two digits each.
    rf"(?<!\d)(?:(?P<a>\d\d)(?P<b>\d\d)|(?P<c>\d\d?)([-_. ])(?P<d>\d\d?)\4){_YEAR}{_TIME}"
)
_BY_NAME: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<!\d){_YEAR}([-_. ]?){_MONTH}\2(?P<day>\d\d?){_TIME}",
        rf"(?<!\d)(?P<day>\d\d?)([-_. ]?){_MONTH}\2{_YEAR}{_TIME}",
        rf"(?<![a-z]){_MONTH}([-_. ]?)(?P<day>\d\d?)\2{_YEAR}{_TIME}",
    )
)
_HEADER = re.compile(
    rb"^#[ \t]+(?:(\d{4})-(\d\d)-(\d\d)|([a-z]{3})/(\d\d)/(\d{4}))[ \t]+(\d\d):(\d\d):(\d\d)"
    rb"[ \t]+by RouterOS\b",
    re.IGNORECASE | re.MULTILINE,
)


def dates_in_name(stem: str) -> dict[str, dt.datetime]:
    """The dates that a file name without its ending may mean, by reading; `{}` if it has none.

    If `CERTAIN` is among them, it is the only one.
    """
    for pattern in (_YEAR_FIRST, *_BY_NAME):
        found = pattern.search(stem)
        if found is not None:
            parts = found.groupdict()
            month = parts.get("month") or 1 + _MONTHS.index(parts["name"][:3].lower())
            date = _date(parts["year"], month, parts["day"], *_time_of(parts))
            if date is not None:
                return {CERTAIN: date}
    found = _YEAR_LAST.search(stem)
    if found is None:
        return {}
    parts = found.groupdict()
    one, other = parts["a"] or parts["c"], parts["b"] or parts["d"]
    readings = {
        DAY_FIRST: _date(parts["year"], other, one, *_time_of(parts)),
        MONTH_FIRST: _date(parts["year"], one, other, *_time_of(parts)),
    }
    return {reading: date for reading, date in readings.items() if date is not None}


def date_and_rest(stem: str) -> tuple[str, str] | None:
    """The date in a name, with its time if it has one, and the name without it and the signs around
    it; None if the name has no date."""
    found = _date_in(stem)
    if found is None or not dates_in_name(stem):
        return None
    around = (stem[: found.start()].strip(_SIGNS), stem[found.end() :].strip(_SIGNS))
    return found[0], "_".join(filter(None, around))


def has_time(stem: str) -> bool:
    """Whether a time of day follows the date in a name."""
    found = _date_in(stem)
    return found is not None and found["hour"] is not None


def _date_in(stem: str) -> re.Match[str] | None:
    """What of a name looks like a date."""
    found = (pattern.search(stem) for pattern in (_YEAR_FIRST, *_BY_NAME, _YEAR_LAST))
    return next(filter(None, found), None)


def date_in_header(export: bytes) -> dt.datetime | None:
    """The date in an export's header line; None if there is none, or the clock was not set."""
    match = _HEADER.search(export[:HEADER_BYTES])
    if match is None:
        return None
    year, month, day, month_name, day_2, year_2, *time = match.groups()
    if month_name is None:
        return _date(year, month, day, *time)
    name = month_name.lower().decode()
    return _date(year_2, 1 + _MONTHS.index(name), day_2, *time) if name in _MONTHS else None


def _time_of(parts: dict[str, str]) -> tuple[str | int, ...]:
    return parts["hour"] or 0, parts["minute"] or 0, parts["second"] or 0


def _date(*parts: str | bytes | int) -> dt.datetime | None:
    year, month, day, hour, minute, second = (int(part) for part in parts)
    try:
        found = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None
    return found if EARLIEST < found < LATEST_CAPTURE else None
