"""What a drill did in one repository."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Restored:
    """One version that was restored."""

    device_id: str
    sha: str
    #: The author's date.
    captured_at: dt.datetime
    #: Sizes of the files that were restored; None if the version does not hold that file.
    export_bytes: int | None = None
    binary_bytes: int | None = None
    #: Against the version before, recomputed.
    lines_added: int | None = None
    lines_removed: int | None = None
    #: How much of the export is no line of a RouterOS script, from 0 to 1.
    unrecognised_share: float | None = None
    #: Whether the export has a line that RouterOS might have written; None if there is no export. Says
    #: nothing about the restore: another maker's text is restored as exactly as any.
    looks_like_routeros: bool | None = None
    #: `plain`, `encrypted` or `unknown`.
    binary_kind: str | None = None
    #: Why the restore failed; empty: it is proven.
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "device_id": self.device_id,
            "commit": self.sha,
            "captured_at": _text(self.captured_at),
            "export_bytes": self.export_bytes,
            "binary_bytes": self.binary_bytes,
            "lines_added": self.lines_added,
            "lines_removed": self.lines_removed,
            "unrecognised_share": self.unrecognised_share,
            "looks_like_routeros": self.looks_like_routeros,
            "binary_kind": self.binary_kind,
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
    #: The same seed on the same history takes the same sample.
    seed: int
    #: The commit whose history was sampled; None if there is none, so there is nothing to restore.
    tip: str | None = None
    #: Devices in the newest commit.
    devices: int = 0
    restored: list[Restored] = field(default_factory=list)
    #: What is wrong with the repository as a whole, such as that it cannot be cloned.
    problems: list[str] = field(default_factory=list)
    #: The sizes of some devices of the sample over time, oldest first.
    curves: dict[str, list[Point]] = field(default_factory=dict)
    #: When each device was last backed up, the longest ago first; with an index that is not
    #: complete only those of the sample.
    last_seen: dict[str, dt.datetime] = field(default_factory=dict)
    #: False: it was told to stop before the whole sample was restored.
    complete: bool = True
    clone_s: float = 0.0
    duration_s: float = 0.0

    @property
    def failed(self) -> int:
        """Restores, or repositories, that failed."""
        return len(self.problems) + sum(bool(one.problems) for one in self.restored)

    def to_json(self, most_devices: int | None = None) -> dict[str, object]:
        """As JSON values; of `last_seen` at most so many, the longest ago."""
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
                device: _text(when) for device, when in list(self.last_seen.items())[:most_devices]
            },
            "clone_s": round(self.clone_s, 3),
            "duration_s": round(self.duration_s, 3),
        }


def _text(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
