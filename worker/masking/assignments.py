"""Finds the secrets that names tell: `password=x`, `"token": "x"`, `:local wifiPass x`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from confkeep.vendors.mikrotik import IN_ONE_MENU
from worker.masking.linear import compiled
from worker.masking.names import SWITCHES, is_known, sounds_secret
from worker.masking.spans import Span
from worker.masking.values import value_at

_NAME: Final = (
    r"[\w.-]*(?:pass|pwd|secret|key|psk|token|credential|pin|puk|cak|pw|phash|seed|communit)[\w.-]*"
)
#: A name, and what stands between it and its value: `=`, `":` and the like; after `:local` and `--`, a space.
_ASSIGNMENT: Final = (
    rf"""(?i)(?:({_NAME})(?:=|[ \t]+=[ \t]*|\\*["'][ \t]*[=:][ \t]*|:[ \t]*|[ \t]+is[ \t]+)"""
    rf"""|:(?:local|global|set)[ \t]+(?:\\*")?({_NAME})(?:\\*")?[ \t]+"""
    rf"""|:set[ \t]+\(\\*\$[\w.-]+->\\*"({_NAME})\\*"\)[ \t]+"""
    rf"""|[ \t]--?({_NAME})[ \t]+)"""
)
_COMMUNITY: Final = frozenset({b"community", b"trap-community", b"snmp-community"})
#: A statement of a script that stands in quotes ends there.
_STATEMENT_END: Final = re.compile(rb"\\[rn]|[;\]\n]")


def assigned(text: bytes) -> Iterator[Span]:
    """The values of all names that are known for secrets, or sound so."""
    expression: Any = compiled(_ASSIGNMENT)
    at = 0
    while (found := expression.search(text, at)) is not None:
        at = found.end()
        name = next(group for group in found.groups() if group is not None)
        lower = name.lower()
        if b"communit" in lower:
            if lower not in _COMMUNITY:
                continue
        elif not sounds_secret(name):
            continue
        span = value_at(text, at)
        if span is None:
            continue
        if not is_known(lower) and SWITCHES.fullmatch(text, span[0], span[1]):
            continue
        yield span
        at = max(at, span[1])


def in_menus(text: bytes) -> Iterator[Span]:
    """The values of RouterOS's properties that are secret in one menu alone."""
    for rule in IN_ONE_MENU:
        menu = rule.menu.removeprefix("/").replace(" ", "[ /]+")
        names = "|".join(rule.names)
        menus: Any = compiled(rf"/{menu}\b")
        properties: Any = compiled(rf"(?:^|[\s\"])(?:{names})=")
        at = 0
        while (found := menus.search(text, at)) is not None:
            at = end = _end_of_menu(text, found.start(), found.end())
            inside = found.end()
            while (name := properties.search(text, inside, end)) is not None:
                inside = name.end()
                if (span := value_at(text, inside)) is not None:
                    yield span
                    inside = max(inside, span[1])
                    # A text may hold what looks like the menu's end.
                    if inside > end:
                        at = end = _end_of_menu(text, found.start(), inside)


def _end_of_menu(text: bytes, start: int, at: int) -> int:
    """Where the commands of a menu end: at the next menu, and within a script with the statement."""
    if start == 0 or text[start - 1 : start] == b"\n":
        end = text.find(b"\n/", at)
        return len(text) if end < 0 else end + 1
    found = _STATEMENT_END.search(text, at)
    return len(text) if found is None else found.end()
