"""The sections of an export: which menu, such as `/ip firewall filter`, each line belongs to."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

#: A line that begins with a menu. A command may follow on the same line: `/system identity set name=r1`.
_MENU: Final = re.compile(
    rb"^(/[a-z0-9][a-z0-9-]*(?: (?!(?:add|set|remove|unset|enable|disable|move|edit|print|export)\b)"
    rb"[a-z0-9][a-z0-9-]*)*)",
    re.MULTILINE,
)
_WRAPPED: Final = (b"\\\n", b"\\\r\n")


class Sections:
    """Where the sections of one export begin. An export of another maker has none.

    A `/` at the start of a wrapped line, such as within a script's source, begins no section.
    """

    def __init__(self, export: bytes) -> None:
        self._starts: list[int] = []
        self._names: list[str] = []
        for found in _MENU.finditer(export):
            at = found.start()
            if not export[max(0, at - 3) : at].endswith(_WRAPPED):
                self._starts.append(at)
                self._names.append(found[1].decode("ascii"))

    def at(self, offset: int) -> str | None:
        """The section of the line that holds the byte at `offset`; None before the first section."""
        number = bisect_right(self._starts, offset)
        return self._names[number - 1] if number else None

    @property
    def names(self) -> frozenset[str]:
        """The names of all sections."""
        return frozenset(self._names)
