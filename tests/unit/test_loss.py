"""Exports that lost much against the last good one: named once, and no edit is called so."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from confkeep.routeros.loss import LEAST_LINES, LOOK_BACK, why_lost
from confkeep.routeros.suspect import why_suspect
from tests.bench.fleet import Fleet
from tests.unit.masking.test_vendors import real
from tests.unit.masking.vendor_texts import TEXTS

HEADER = "# 2026-01-%02d 03:04:05 by RouterOS 7.16\n# software id = AB\n"
#: As many lines as no look-out for few of them ends early.
MANY = 1_000


def export(sections: Sequence[str], lines: int = 4, day: int = 2, suffix: str = "") -> bytes:
    parts = [HEADER % day]
    for section in sections:
        parts.append(f"/{section}\n")
        parts.extend(f"add name={section.replace(' ', '-')}{n}{suffix}\n" for n in range(lines))
    return "".join(parts).encode()


SECTIONS = [f"ip menu{number}" for number in range(12)]
GOOD = export(SECTIONS)


def reason(new: bytes, *before: bytes) -> str | None:
    return why_suspect(new, None) or why_lost(new, before, MANY)


def without(sections: int, of: Sequence[str] = SECTIONS) -> list[str]:
    return [*of[:2], *of[2 + sections :]]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (export(SECTIONS, day=3), None),
        (export(without(3), day=3), None),
        (export(without(4), day=3), "4 of 12 sections of the last good export are gone"),
        # An upgrade calls them otherwise.
        (export([*without(4), *(f"new menu{number}" for number in range(4))]), None),
        (export([*without(6), "new menu", "tool x"]), "6 of 12 sections"),
        (export([*SECTIONS[:-1], "ip other"]), None),
        (b"\n".join(GOOD.split(b"\n")[:-3]) + b"\n", None),
        (b"\n".join(GOOD.split(b"\n")[:-4]) + b"\n", "the last good one goes on for 3 lines"),
        (export(SECTIONS[:-2], day=3), "the last good one goes on for 10 lines"),
        (export([*SECTIONS[:-1], "tool last"]), None),
        (
            export(SECTIONS, lines=1),
            "it has 371 bytes, the last good export 1,061, headers left out",
        ),
        (export(SECTIONS, lines=2), None),
        (export(SECTIONS, lines=9), None),
        (export(SECTIONS, suffix="-x"), None),
    ],
)
def test_what_is_lost_is_named(new: bytes, expected: str | None) -> None:
    found = reason(new, GOOD)
    assert found is None if expected is None else expected in (found or "")


def test_a_large_export_may_lose_a_few_sections() -> None:
    many = [f"ip menu{number}" for number in range(60)]
    assert reason(export(without(8, many)), export(many)) is None
    assert "9 of 60" in (reason(export(without(9, many)), export(many)) or "")


def test_each_line_may_name_its_section() -> None:
    def terse(sections: Sequence[str]) -> bytes:
        lines = [f"/{name} add name=x{n}\n" for name in sections for n in range(4)]
        return (HEADER % 2 + "".join(lines)).encode()

    assert reason(terse(without(3)), terse(SECTIONS)) is None
    assert "4 of 12 sections" in (reason(terse(without(4)), terse(SECTIONS)) or "")
    others = b"".join(b"/new menu%d add x=y\n" % number for number in range(4))
    upgraded = terse(without(4)).replace(b"/ip menu6", others + b"/ip menu6", 1)
    assert reason(upgraded, terse(SECTIONS)) is None


def test_a_wrapped_line_counts_once() -> None:
    script = b'add name=a source="one\\r\\\n    \\ntwo\\r\\\n    \\nthree\\r\\\n    \\nfour"\n'
    assert reason(GOOD, GOOD + b"/system script\n" + script) is None
    found = reason(GOOD, GOOD + b"/system script\n" + script.replace(b"a", b"b") + script)
    assert "goes on for 3 lines" in (found or "")


def test_what_routeros_tells_between_the_lines_is_not_counted() -> None:
    noted = GOOD.replace(b"add name=ip-menu11", b"# not ready\nadd name=ip-menu11")
    assert reason(GOOD, noted + b"# not ready\n# not ready\n# not ready\n") is None


def test_few_changed_lines_are_not_looked_at() -> None:
    def never() -> Iterator[bytes]:
        pytest.fail("a version was read")
        yield b""

    assert why_lost(GOOD, never(), LEAST_LINES - 1) is None


def test_as_a_rule_only_the_version_before_is_read() -> None:
    taken = []

    def versions() -> Iterator[bytes]:
        for number in range(1_000):
            taken.append(number)
            yield export(SECTIONS, lines=5 + 9 * (number % 2))

    assert why_lost(export(SECTIONS, lines=5, suffix="a"), [GOOD], MANY) is None
    assert why_lost(GOOD, iter([export(SECTIONS, suffix="a")] * 2), MANY) is None
    assert why_lost(export(SECTIONS, lines=14), versions(), MANY) is None
    assert len(taken) == LOOK_BACK
    taken.clear()
    assert why_lost(export(SECTIONS, lines=6), versions(), MANY) is None
    assert len(taken) == 1


def test_many_large_versions_are_not_held_at_a_time() -> None:
    taken = []
    sizes = [GOOD + b"add x=y\n" * count for count in (1_500_000, 700_000)]

    def versions() -> Iterator[bytes]:
        for number in range(LOOK_BACK):
            taken.append(number)
            yield sizes[number % 2]

    assert "most of it is gone" in (why_lost(GOOD, versions(), MANY) or "")
    assert len(taken) < LOOK_BACK


def test_captures_after_a_cut_one_are_compared_to_the_last_good_one() -> None:
    lines = GOOD.splitlines(keepends=True)
    one, two, three = (b"".join(lines[:count]) for count in (30, 50, 40))
    assert reason(one, GOOD)
    assert reason(two, one, GOOD), "it is longer than the one before"
    assert reason(three, two, one, GOOD)
    assert reason(GOOD, three, two, one, GOOD) is None
    assert reason(export(SECTIONS, suffix="b"), three, two, one, GOOD) is None


def test_an_error_is_never_the_last_good_one() -> None:
    cut = b"".join(GOOD.splitlines(keepends=True)[:40])
    for error in (b"", b"bus error\n", b"MMM      MMM       KKK\n" * 2_000):
        assert reason(cut, error, error, GOOD)
        assert reason(GOOD, error, error, GOOD) is None
        assert reason(GOOD, error) is None


def test_what_a_person_deleted_is_told_once() -> None:
    half = SECTIONS[:5]
    smaller = export(half)
    assert reason(smaller, GOOD)
    assert reason(export(half, day=3), smaller, GOOD) is None, "the same a second time"
    edited = export(half, suffix="-x")
    assert reason(edited, smaller, GOOD) is None, "almost the same"
    grown = export([*half, "tool more"], lines=9, suffix="-x")
    assert reason(grown, edited, smaller, GOOD) is None
    assert reason(edited, grown, edited, smaller, GOOD), "and lost again"


def test_edits_lose_nothing() -> None:
    fleet = Fleet(1)
    history = [fleet.export()]
    for _ in range(200):
        history.insert(0, fleet.next_export(history[0]))
        assert why_lost(history[0], history[1:], MANY) is None


def test_at_least_95_of_100_cuts_are_found() -> None:
    fleet, rng = Fleet(1), random.Random(13)
    found = 0
    for _ in range(200):
        old = fleet.export(rng.choice([2_000, 18_000]))
        lines = fleet.next_export(old).splitlines(keepends=True)
        cut = b"".join(lines[: rng.randrange(1, len(lines))])
        found += reason(cut, old) is not None
    assert found >= 190


@pytest.mark.parametrize(("maker", "text"), TEXTS)
def test_of_other_makers_the_last_lines_may_be_deleted(maker: str, text: str) -> None:
    """Unless each of their exports ends with the same line."""
    good = real(text * 3)
    lines = good.splitlines(keepends=True)
    ends = lines[-1].strip() in (b"end", b"return", b"}", b"</opnsense>", b"</config>")
    for gone in range(LEAST_LINES, 8):
        found = why_lost(b"".join(lines[:-gone]), [good], gone)
        assert found is None or ends
    if ends and lines[-9].strip() != lines[-1].strip():
        assert why_lost(b"".join(lines[:-8]), [good], 8)
