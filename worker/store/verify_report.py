"""What a verification tells: findings, what each is about, and how it ended; plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final


class Outcome(StrEnum):
    """How a verification ended."""

    CLEAN = "clean"
    DAMAGED = "damaged"
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


#: What `repair_repository` can mend, since it is derived from the rest.
REPAIRABLE: Final = frozenset({Kind.HEAD, Kind.IDX, Kind.HELPER, Kind.INDEX, Kind.LEFTOVER})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

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


@dataclass(slots=True)
class Report:
    """What a verification found."""

    path: Path
    outcome: Outcome = Outcome.CLEAN
    findings: list[Finding] = field(default_factory=list)
    #: Objects that were inflated and hashed.
    objects: int = 0
    #: Commits that were followed from the refs.
    commits: int = 0
    devices: int = 0
    #: Whether all that was asked for was looked at before the time was over.
    complete: bool = True
    duration_s: float = 0.0

    def add(self, kind: Kind, place: str, text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, place, text))
        self.outcome = Outcome.DAMAGED

    def to_json(self, most_findings: int | None = None) -> dict[str, object]:
        """As JSON values, without the path; of very many findings only the first."""
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
