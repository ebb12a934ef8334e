"""Finds the secrets that names tell: `password=x`, `"token": "x"`, `:local wifiPass x`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from confkeep.vendors.mikrotik import IN_ONE_MENU, SHOWN_IN_ONE_MENU
from worker.masking.linear import compiled
from worker.masking.names import KNOWN, SWITCHES, is_known, sounds_secret
from worker.masking.spans import Span
from worker.masking.values import value_at

_WORD: Final = "pass|pwd|secret|key|psk|token|credential|pin|puk|cak|pw|phash|seed|communit"
_OTHERS: Final = "|".join(name for name in sorted(KNOWN) if re.search(_WORD, name) is None)
_NAME: Final = rf"[\w.-]*(?:{_WORD}|{_OTHERS})[\w.-]*"
#: A name, and what stands between it and its value: `=`, `":` and the like; after `:local` and `--`, a space.
_ASSIGNMENT: Final = (
    rf"""(?i)(?:({_NAME})(?:=|[ \t]+=[ \t]*|\\*["'][ \t]*[=:][ \t]*|:[ \t]*|[ \t]+is[ \t]+)"""
    rf"""|:(?:local|global|set)[ \t]+(?:\\*[$"])?({_NAME})(?:\\*")?[ \t]+"""
    rf"""|:set[ \t]+\(\\*\$[\w.-]+->\\*"({_NAME})\\*"\)[ \t]+"""
    rf"""|(?:^|[ \t"'])--?({_NAME})[ \t]+)"""
)
_SHOWN_NAMES: Final = frozenset(name.encode() for name in SHOWN_IN_ONE_MENU.names)
_COMMUNITY: Final = frozenset({"community", "trap-community", "snmp-community"})
#: A statement of a script that stands in quotes ends there.
_STATEMENT_END: Final = re.compile(rb"(?<!\\)\\[rn]|\n")


def assigned(text: bytes) -> Iterator[Span]:
    """The values of all names that are known for secrets, or sound so."""
    expression: Any = compiled(_ASSIGNMENT)
    shown = _Shown(text)
    at = 0
    while (found := expression.search(text, at)) is not None:
        at = found.end()
        name = next(group for group in found.groups() if group is not None).lower()
        if b"communit" in name:
            if name.decode("latin-1") not in _COMMUNITY:
                continue
        elif not sounds_secret(found[found.lastindex]) or shown.has(name, at):
            continue
        span = value_at(text, at)
        if span is None:
            continue
        if not is_known(name) and SWITCHES.fullmatch(text, span[0], span[1]):
            continue
        yield span
        at = max(at, span[1])


class _Shown:
    """Where a property is no secret that is one elsewhere."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    @cached_property
    def _regions(self) -> list[Span]:
        return list(_regions(self._text, SHOWN_IN_ONE_MENU.menu))

    def has(self, name: bytes, at: int) -> bool:
        if name not in _SHOWN_NAMES:
            return False
        number = bisect_right(self._regions, (at, len(name))) - 1
        return number >= 0 and at < self._regions[number][1]


def in_menus(text: bytes) -> Iterator[Span]:
    """The values of RouterOS's properties that are secret in one menu alone."""
    for rule in IN_ONE_MENU:
        properties: Any = compiled(rf"(?:^|[\s\"])(?:{'|'.join(rule.names)})=")
        for start, end in _regions(text, rule.menu):
            at = start
            while (name := properties.search(text, at, end)) is not None:
                at = name.end()
                if (span := value_at(text, at)) is not None:
                    yield span
                    at = max(at, span[1])


def _regions(text: bytes, menu: str) -> Iterator[Span]:
    """Where the commands of a menu stand."""
    menus: Any = compiled("/" + menu.removeprefix("/").replace(" ", "[ /]+") + r"\b")
    at = 0
    while (found := menus.search(text, at)) is not None:
        start = found.start()
        if start == 0 or text[start - 1 : start] == b"\n":
            # Until the next menu.
            end = text.find(b"\n/", found.end())
            at = len(text) if end < 0 else end + 1
        else:
            # In a script, until the statement's end.
            stop = _STATEMENT_END.search(text, found.end())
            at = len(text) if stop is None else stop.end()
        yield found.end(), at
