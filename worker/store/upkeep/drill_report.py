"""What a drill did in one repository."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field

from confkeep.wording import utc_text


@dataclass(frozen=True, slots=True)
class Restored:
    """A version that was restored."""

    device_id: str
    commit: str
    #: The author's date.
    captured_at: dt.datetime
    #: Sizes of the restored files in bytes; None if the version does not hold that file.
    export_bytes: int | None = None
    binary_bytes: int | None = None
    #: Line counts against the version before, recomputed.
    lines_added: int | None = None
    lines_removed: int | None = None
    #: The part of the export that is no line of a RouterOS script, from 0 to 1.
    unrecognised_share: float | None = None
    #: Whether the export has a line that RouterOS might have written; None if there is no export.
    #: Does not judge the restore: another maker's text is restored as exactly as any.
    looks_like_routeros: bool | None = None
    #: `plain`, `encrypted` or `unknown`.
    binary_kind: str | None = None
    #: Why the restore failed; empty if it is proven.
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            **asdict(self),
            "captured_at": utc_text(self.captured_at),
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """A version of a device in a chart."""

    captured_at: dt.datetime
    export_bytes: int
    binary_bytes: int


@dataclass(slots=True)
class DrillReport:
    """What a drill did in one repository."""

    tenant_id: str
    #: The same seed and history give the same sample.
    seed: int
    #: The commit whose history was sampled; None if the repository is empty.
    tip: str | None = None
    #: Devices in the newest commit.
    devices: int = 0
    restored: list[Restored] = field(default_factory=list)
    #: Problems of the whole repository, such as that it cannot be cloned.
    problems: list[str] = field(default_factory=list)
    #: The sizes of some devices of the sample over time, oldest first.
    curves: dict[str, list[Point]] = field(default_factory=dict)
    #: When each device was last backed up, longest ago first; if the index is incomplete, only the
    #: devices of the sample.
    last_seen: dict[str, dt.datetime] = field(default_factory=dict)
    #: False if the drill was stopped before the whole sample was restored.
    complete: bool = True
    clone_s: float = 0.0
    duration_s: float = 0.0

    @property
    def failed(self) -> int:
        """How many restores failed, plus the problems of the whole repository."""
        return len(self.problems) + sum(bool(one.problems) for one in self.restored)

    def to_json(self, most_devices: int | None = None) -> dict[str, object]:
        """As JSON values, with at most so many entries of `last_seen`: those longest ago."""
        return {
            "tenant_id": self.tenant_id,
            "outcome": "failed" if self.failed else "proven" if self.restored else "empty",
            "failed": self.failed,
            "complete": self.complete,
            "seed": self.seed,
            "tip": self.tip,
            "devices": self.devices,
            "problems": self.problems,
            "restored": [one.to_json() for one in self.restored],
            "last_seen": {
                device: utc_text(when)
                for device, when in list(self.last_seen.items())[:most_devices]
            },
            "clone_s": round(self.clone_s, 3),
            "duration_s": round(self.duration_s, 3),
        }
