"""Texts as people read them: numbers with their noun, dates, ages, sizes, and what others wrote made printable."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def count_text(number: int, noun: str) -> str:
    """`1 backup`, `2 backups`, `10,000 backups`; the noun's plural ends with s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def waiting_text(backups: int, size_bytes: int) -> str:
    """How much waits: `2 backups with 1,234 bytes wait`."""
    wait = "waits" if backups == 1 else "wait"
    return f"{count_text(backups, 'backup')} with {count_text(size_bytes, 'byte')} {wait}"


def utc_text(moment: dt.datetime) -> str:
    """A moment in UTC for programs: ISO 8601 with a Z at its end."""
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def date_text(when: dt.datetime) -> str:
    """A date in UTC, to the second."""
    return when.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def age_text(seconds: float) -> str:
    """A duration in its largest unit, such as `3 min`."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s"


def size_text(size_bytes: int) -> str:
    """A size, with the exact bytes while they are few."""
    if size_bytes < 10_000:
        return count_text(size_bytes, "byte")
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes / 1024:.1f} KiB"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first field at fault (blank: all together), and what pydantic says of it; never its value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    problem = problem.partition(", unable to parse")[0].partition(", unable to interpret")[0]
    return ".".join(str(part) for part in first["loc"]), problem


def printable(text: str) -> str:
    """`text` with escapes for everything that could steer a terminal or hide itself.

    These are control and format characters (such as those that reverse the direction of writing),
    line breaks, and bytes that are not UTF-8.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python decoded with `surrogateescape`
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
