"""What a chaos run did and found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """What a run did and found."""

    faults: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    unknown: int = 0
    commits: int = 0
    #: Workers that ended though nobody killed them or asked them to.
    ended: int = 0
    #: Commits that each kind of reader of events was told, and how many were told again.
    told: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    #: Seconds from the end of the faults until nothing waited any more, for each round.
    drained_s: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes that were killed."""
        return sum(number for what, number in self.faults.items() if what.startswith("kill "))

    @property
    def tears(self) -> int:
        """How often the broker's file was torn."""
        return self.faults["kill torn file"]

    def __str__(self) -> str:
        faults = ", ".join(f"{number} x {what}" for what, number in sorted(self.faults.items()))
        drained = ", ".join(f"{seconds:.1f}" for seconds in self.drained_s)
        told = ", ".join(f"{number} to one that {kind}" for kind, number in self.told.items())
        lines = [
            f"{self.kills} kills; {faults}",
            (
                f"{self.accepted} backups accepted, {self.unknown} with an unknown outcome, "
                f"{self.commits} committed"
            ),
            f"events told: {told}; {self.repeated} told again",
            f"{self.ended} workers ended by themselves",
            f"seconds until all was committed after the faults: {drained}",
            *self.complaints,
            f"{len(self.complaints)} complaints",
        ]
        return "\n".join(lines)
