"""Recognises exports that lost their end, sections, or most of what the last good one held.

A cut falls anywhere, so the captures after one differ from it and from each other. What a person
deleted stays deleted: two captures in a row that lost nothing against each other are both taken for
good, whatever came before. So a real loss is told once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from confkeep.routeros.export import differing, without_escapes, without_volatile_header
from confkeep.routeros.sections import Sections
from confkeep.routeros.suspect import why_suspect
from confkeep.vendors.families import is_routeros

#: Fewer changed lines than this are never looked at: somebody removed an item.
LEAST_LINES: Final = 3
#: Lines that are gone from the end, counted without their wraps. No version of a real history lost
#: more than two.
_END_LINES: Final = LEAST_LINES
#: Both exports together, at most, of which that is looked at: lines take several times their bytes.
_END_BYTES: Final = 8 * 1024 * 1024
#: Sections that are gone, less those that are new, of which real histories have up to three; and
#: their least share of all.
_SECTIONS: Final = 4
_SECTION_SHARE: Final = 0.15
#: The least that a section takes: its line, and a short one in it.
_SECTION_BYTES: Final = 16
#: The bytes that are left, at most, where most is gone.
_LEFT_SHARE: Final = 0.5
#: How far back the last good one is looked for; how many bytes of exports that may hold at a time.
LOOK_BACK: Final = 10
_LOOK_BACK_BYTES: Final = 16 * 1024 * 1024

#: What other makers' exports end with, if they end with the same at all times. Where they do not, a person may
#: have deleted the last lines.
_END: Final = re.compile(rb"end|return|exit|quit|\}|</[\w.-]+>")
_WRAP: Final = re.compile(rb"\\\r?\n[ \t]*")


def why_lost(export: bytes, before: Iterable[bytes], changed_lines: int) -> str | None:
    """What an export lost against the last good one, as one sentence; None if nothing much.

    Args:
        before: the exports of the device's earlier versions, newest first. As a rule only the first
            one is taken, and never more than `LOOK_BACK`.
        changed_lines: that were added to, or removed from, the version before, whichever are more.
    """
    if changed_lines < LEAST_LINES:
        return None
    # From the newest one back to one that is good for certain.
    chain = [export]
    size = 0
    for tried, older in enumerate(before, start=1):
        lost, came = _losses(older, chain[-1])
        if lost is None and came is None:
            break
        if why_suspect(older, None) is None:
            chain.append(older)
        size += len(older)
        if tried == LOOK_BACK or size > _LOOK_BACK_BYTES:
            break
    # And forth again.
    good, reason = chain.pop(), None
    while chain:
        newer = chain.pop()
        reason = _losses(good, newer)[0]
        if reason is None:
            good = newer
    return reason


def _losses(old: bytes, new: bytes) -> tuple[str | None, str | None]:
    """What `new` lost against `old`, and what the old one lacks of it in the same way."""
    has_end = is_routeros(old) or is_routeros(new)
    old, new = (without_volatile_header(without_escapes(export)) for export in (old, new))
    return _lost(old, new, has_end=has_end), _lost(new, old, has_end=has_end)


def _lost(good: bytes, new: bytes, *, has_end: bool) -> str | None:
    if len(new) <= len(good) * _LEFT_SHARE:
        return (
            f"most of it is gone: it has {len(new):,} bytes, the last good export {len(good):,}, headers "
            "left out"
        )
    last = _last_line(good)
    if last != _last_line(new) and (has_end or _END.fullmatch(last.strip())):
        lines = _lost_at_end(good, new)
        if lines:
            return f"the export is cut off: the last good one goes on for {lines} lines"
    # Mostly nothing is lost, so what costs least to see is looked at first.
    if len(good) - len(new) < _SECTIONS * _SECTION_BYTES:
        return None
    if good.count(b"\n/") - new.count(b"\n/") < _SECTIONS:
        return None
    had, has = Sections(good).names, Sections(new).names
    gone = len(had - has)
    if gone - len(has - had) < max(_SECTIONS, len(had) * _SECTION_SHARE):
        return None
    return f"{gone} of {len(had)} sections of the last good export are gone"


def _last_line(text: bytes) -> bytes:
    text = text.rstrip()
    return text[text.rfind(b"\n") + 1 :]


def _lost_at_end(good: bytes, new: bytes) -> int:
    """The lines that were lost at the end; 0 if these may have been changed.

    Lines that are in both texts, in whatever order, are neither lost nor new.
    """
    if len(good) + len(new) > _END_BYTES:
        return 0
    only_good, only_new = differing(good, new)
    gone = _lines(only_good)
    if len(gone) < _END_LINES:
        return 0  # so nearly always, also where much was added
    come = _lines(only_new)
    lost = Counter(gone)
    lost.subtract(come)
    lines, instead = _run(gone, lost, 1), _run(come, lost, -1)
    return lines if lines >= _END_LINES * (1 + instead) else 0


def _run(lines: list[bytes], lost: Counter[bytes], sign: int) -> int:
    """How many lines at the end are all of those that were lost; with the sign -1, that are new."""
    run = Counter[bytes]()
    for line in reversed(lines):
        if run[line] >= sign * lost[line]:
            break
        run[line] += 1
    return run.total()


def _lines(text: bytes) -> list[bytes]:
    """Lines without their wraps, and without comments: these come and go by themselves."""
    return [line for line in _WRAP.sub(b"", text).splitlines() if not line.startswith(b"#")]
