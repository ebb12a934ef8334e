"""Texts as people read them: numbers with their noun, and what others wrote made printable."""

from __future__ import annotations

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
