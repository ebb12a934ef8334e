"""Replaces the secrets in an export by `***`, and keeps its lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from confkeep.vendors.common import WORDS
from confkeep.vendors.families import FAMILIES, family_of, is_routeros
from confkeep.vendors.rules import Secret
from worker.masking.assignments import assigned, in_menus
from worker.masking.linear import compiled
from worker.masking.names import SWITCHES
from worker.masking.shapes import groups, shaped
from worker.masking.spans import Span, Unwrapped, without


def mask(export: bytes, model: str | None = None) -> bytes:
    """The export with each secret replaced by `***`. It has as many lines as the real one.

    Where secrets stand is told by the maker's rules, and by names that sound secret. The same text gives
    the same masked text, and nothing in it depends on a secret, so a search in it tells nothing of one.

    Args:
        model: the device's model label; it is asked only where the text does not tell its maker.
    """
    return without(export, secrets_in(export, model))


def secrets_in(export: bytes, model: str | None = None) -> list[Span]:
    """Where the secrets of an export stand, in order, without overlaps, each within one line."""
    unwrapped = Unwrapped(export)
    return unwrapped.real(_secrets(unwrapped.text, model))


def _secrets(text: bytes, model: str | None) -> Iterator[Span]:
    yield from assigned(text)
    yield from in_menus(text)
    yield from shaped(text)
    if is_routeros(text):
        return
    family = family_of(text, model)
    # An unknown maker's text is given to all: too much is masked rather than too little.
    rules = family.secrets if family else [rule for each in FAMILIES for rule in each.secrets]
    for rule in rules:
        yield from _ruled(text, rule)
    for rule in WORDS:
        for start, end in _ruled(text, rule):
            if not SWITCHES.fullmatch(text, start, end):
                yield start, end


def _ruled(text: bytes, rule: Secret) -> Iterator[Span]:
    for start, end in groups(compiled(rule.pattern), text):
        if rule.unless is None or not _whole(rule.unless).fullmatch(text, start, end):
            yield start, end


@cache
def _whole(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.IGNORECASE)
