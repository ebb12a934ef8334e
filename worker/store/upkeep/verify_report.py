"""What a verification reports: its findings, what each is about, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from confkeep.errors import ConfkeepError, InvalidInput, NotOwner
from worker.store.git import ownership


class Outcome(StrEnum):
    """How a verification ended."""

    CLEAN = "clean"
    DAMAGED = "damaged"
    #: It belongs to another user, and this process may not read all of it.
    UNREADABLE = "unreadable"
    #: Another process held the repository's lock for longer than the caller wanted to wait.
    LOCKED = "locked"
    MISSING = "missing"


class Kind(StrEnum):
    """What a finding is about."""

    REF = "ref"
    HEAD = "head"
    PACK = "pack"
    IDX = "idx"
    HELPER = "helper"
    OBJECT = "object"
    DEVICE = "device"
    INDEX = "index"
    LEFTOVER = "leftover"
    #: The map of rewritten ids.
    IDS = "ids"
    #: The tenant's own rules of retention.
    RULES = "rules"
    CONFIG = "config"
    #: What could not be checked, and why.
    UNREADABLE = "unreadable"


#: The kinds that `repair_repository` can mend, since they can be derived from the rest.
REPAIRABLE: Final = frozenset(
    {Kind.HEAD, Kind.IDX, Kind.HELPER, Kind.INDEX, Kind.LEFTOVER, Kind.CONFIG}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    #: A path inside the repository, an object's id or a device's id.
    place: str
    text: str

    @property
    def repairable(self) -> bool:
        """Whether `repair_repository` tries to mend it."""
        return self.kind in REPAIRABLE

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "kind": self.kind.value,
            "place": self.place,
            "text": self.text,
            "repairable": self.repairable,
        }


def parse_subset(text: str) -> tuple[int, int]:
    """The `subset` for the text `N/T`.

    Raises:
        InvalidInput: something else.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise InvalidInput("subset", "must be N/T, such as 1/7, with 1 <= N <= T")
    return part, parts


@dataclass(slots=True)
class Report:
    """What a verification found."""

    path: Path
    outcome: Outcome = Outcome.CLEAN
    findings: list[Finding] = field(default_factory=list)
    #: How many objects were inflated and hashed.
    objects: int = 0
    #: How many commits were followed from the refs.
    commits: int = 0
    devices: int = 0
    #: Whether everything that was asked for was checked in time.
    complete: bool = True
    duration_s: float = 0.0

    def add(self, kind: Kind, place: str, text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, place, text))
        self.outcome = Outcome.DAMAGED

    def fail(self, what: str, error: Exception) -> None:
        """Note that something could not be checked, for whatever reason."""
        refusal = ownership.refusal_of(error) if isinstance(error, OSError) else None
        if isinstance(error, NotOwner) or refusal is not None:
            self.findings.append(Finding(Kind.UNREADABLE, what, str(refusal or error)))
            if self.outcome == Outcome.CLEAN:
                self.outcome = Outcome.UNREADABLE
        elif isinstance(error, ConfkeepError):
            self.add(Kind.UNREADABLE, what, str(error))
        else:
            # The error's type says more than its text, which may be empty.
            self.add(Kind.UNREADABLE, what, f"{type(error).__name__}: {error}")

    def to_json(self, most_findings: int | None = None) -> dict[str, object]:
        """As JSON values, without the path; only the first findings if there are very many."""
        return {
            "outcome": self.outcome.value,
            "complete": self.complete,
            "objects": self.objects,
            "commits": self.commits,
            "devices": self.devices,
            "duration_s": round(self.duration_s, 3),
            "finding_count": len(self.findings),
            "findings": [finding.to_json() for finding in self.findings[:most_findings]],
        }
