"""What maintenance remembers of a repository, and when a full repack pays.

`confkeep.maintenance` holds the state as JSON. It may be lost: without it, or if it cannot be read,
the next repack acts as the first one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.store.git import durable

STATE_NAME: Final = "confkeep.maintenance"

#: Seconds between two full repacks that nobody asked for.
FULL_INTERVAL_S: Final = 7 * 86_400.0

#: Before the first full repack: the part of the added bytes that it is expected to leave.
_FIRST_RATIO: Final = 0.5
#: What a full repack must be expected to save: bytes, and part of the repository.
_LEAST_SAVING_BYTES: Final = 1 << 20
_LEAST_SAVING: Final = 0.1


@dataclass(frozen=True, slots=True)
class State:
    """When each was last done, in seconds since 1970; 0 if never."""

    repacked_at: float = 0.0
    full_at: float = 0.0
    #: Bytes in packs after the last full repack.
    full_bytes: int = 0
    #: The part of the bytes added since the full repack before that the last one left, 0 to 1.
    ratio: float = _FIRST_RATIO
    #: Bytes in packs when the commit-graph was last written.
    graphed_bytes: int = 0
    #: Why the last repack, or the full one that was due, did not run; empty if it ran.
    skipped: str = ""
    skipped_at: float = 0.0

    def without_skip(self) -> State:
        """The state after a repack that ran."""
        return dataclasses.replace(self, skipped="", skipped_at=0.0)


def read_state(path: Path) -> State:
    """The state of the repository at `path`; the initial state if none is stored."""
    try:
        values = json.loads((path / STATE_NAME).read_bytes())
        return State(
            repacked_at=float(values["repacked_at"]),
            full_at=float(values["full_at"]),
            full_bytes=int(values["full_bytes"]),
            ratio=min(1.0, max(0.0, float(values["ratio"]))),
            # Earlier releases do not write it.
            graphed_bytes=int(values.get("graphed_bytes", 0)),
            skipped=str(values["skipped"]),
            skipped_at=float(values["skipped_at"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return State()


def write_state(path: Path, state: State) -> None:
    """Store `state`.

    Raises:
        OSError: the file system refused.
    """
    text = json.dumps(dataclasses.asdict(state), indent=1)
    durable.replace_file(path / STATE_NAME, text.encode() + b"\n")


def why_no_full(state: State, size_bytes: int, now: float) -> str | None:
    """Why a full repack would be too early or save too little; None if it pays.

    Estimates that the bytes added since the last full repack shrink as those added before did. A
    repository that has doubled is repacked whatever the estimate.
    """
    age_s = now - state.full_at
    if age_s < FULL_INTERVAL_S:
        return f"the last full repack was {age_s / 86_400:.1f} days ago, at most one a week"
    saving = (size_bytes - state.full_bytes) * (1 - state.ratio)
    if saving < _LEAST_SAVING_BYTES:
        return f"a full repack would save about {max(0, saving) / 1024:.0f} KiB"
    if saving < _LEAST_SAVING * size_bytes and size_bytes < 2 * state.full_bytes:
        return f"a full repack would save about {100 * saving / size_bytes:.0f} %"
    return None


def after_full(state: State, before_bytes: int, after_bytes: int, now: float) -> State:
    """The state after a full repack that made `before_bytes` of packs `after_bytes`."""
    added = before_bytes - state.full_bytes
    left = after_bytes - state.full_bytes
    ratio = min(1.0, max(0.0, left / added)) if added > 0 else state.ratio
    return dataclasses.replace(
        state, repacked_at=now, full_at=now, full_bytes=after_bytes, ratio=ratio
    ).without_skip()


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write to the file system of `path`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def disk_bytes(path: Path) -> int:
    """Bytes that the file system of `path` can hold, without those reserved for root."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
