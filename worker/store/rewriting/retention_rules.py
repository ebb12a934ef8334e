"""Which captures of a device retention keeps, as pure functions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from confkeep.errors import InvalidInput

#: Largest value of a rule.
MOST: Final = 1_000_000
_DAY_S: Final = 86_400
#: The last second of the year 9999.
_LAST_S: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep. A rule that is None keeps nothing; if all are None, everything stays."""

    keep_last: int | None = None
    keep_days: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) is not None for each in fields(self))


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for captures, and those for the binaries of the captures that stay."""

    versions: Rules = field(default_factory=Rules)
    binaries: Rules = field(default_factory=Rules)

    def __bool__(self) -> bool:
        return bool(self.versions) or bool(self.binaries)


_NAMES: Final = tuple(each.name for each in fields(Rules))
_BINARY: Final = "binary_"

#: The names of all rules, as used by settings, command line options and the tenant's file.
RULE_NAMES: Final = (*_NAMES, *(_BINARY + name for name in _NAMES))


def policy_of(values: Mapping[str, object]) -> Policy:
    """Make a policy from rules by name.

    Raises:
        InvalidInput: an unknown name, or a value that is neither None nor 1 to a million.
    """
    checked: dict[str, int | None] = {}
    for name, value in values.items():
        if name not in RULE_NAMES:
            raise InvalidInput("retention", "holds a rule of an unknown name")
        if value is None:
            checked[name] = None
        elif type(value) is int and 1 <= value <= MOST:
            checked[name] = value
        else:
            raise InvalidInput(name, f"must be a whole number from 1 to {MOST:,}, or none")
    return Policy(
        Rules(**{name: checked.get(name) for name in _NAMES}),
        Rules(**{name: checked.get(_BINARY + name) for name in _NAMES}),
    )


@dataclass(frozen=True, slots=True)
class Capture:
    """What the rules know about one capture."""

    #: The committer's date in seconds since 1970.
    committed_s: int
    #: Whether the export differs from the capture before in more than volatile lines.
    config_changed: bool
    #: Whether a file differs from the capture before.
    changed: bool
    #: Whether the export looks cut off or like an error, or lost much against the last good one.
    suspect: bool
    #: Identifies the binary's content; None if the capture has no binary.
    binary: Hashable | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether each capture is kept, and whether its binary is."""

    keep: list[bool]
    #: Also False for a capture that is not kept or has no binary.
    keep_binary: list[bool]


def decide(captures: Sequence[Capture], policy: Policy, now_s: int) -> Decision:
    """Decide what is kept of one device.

    Args:
        captures: all of the device, in the order of the history, oldest first.
        now_s: the time from which `keep_days` counts back, in seconds since 1970.
    """
    kept = _kept(captures, range(len(captures)), policy.versions, now_s)
    candidates = [n for n in sorted(kept) if captures[n].binary is not None]
    chosen = _kept(captures, candidates, policy.binaries, now_s)
    binaries = {captures[n].binary for n in chosen}
    return Decision(
        [n in kept for n in range(len(captures))],
        [
            n in kept and capture.binary is not None and capture.binary in binaries
            for n, capture in enumerate(captures)
        ],
    )


def _kept(
    captures: Sequence[Capture], candidates: Sequence[int], rules: Rules, now_s: int
) -> set[int]:
    """The numbers in `candidates` (sorted numbers of captures) that at least one rule keeps."""
    if not rules or not candidates:
        return set(candidates)

    def worth(number: int) -> tuple[bool, int, int]:
        capture = captures[number]
        return (
            not capture.suspect,
            2 if capture.config_changed else int(capture.changed),
            number,
        )

    good = [number for number in candidates if not captures[number].suspect]
    kept = {candidates[-1], *good[-1:]}
    if rules.keep_last is not None:
        kept.update(sorted(candidates, key=worth)[-rules.keep_last :])
    if rules.keep_days is not None:
        oldest_s = now_s - rules.keep_days * _DAY_S
        kept.update(n for n in candidates if captures[n].committed_s >= oldest_s)
    for count, period in (
        (rules.keep_daily, "%Y-%m-%d"),
        (rules.keep_weekly, "%G-%V"),
        (rules.keep_monthly, "%Y-%m"),
    ):
        if count is None:
            continue
        best: dict[str, int] = {}
        for number in candidates:
            name = _date(captures[number].committed_s).strftime(period)
            best[name] = max(best.get(name, number), number, key=worth)
        kept.update(best[name] for name in sorted(best)[-count:])
    return kept


def _date(seconds: int) -> dt.date:
    # Commits of other programs may have dates outside the calendar.
    return dt.datetime.fromtimestamp(min(max(seconds, 0), _LAST_S), dt.UTC).date()
