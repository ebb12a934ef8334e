"""What maintenance remembers of a repository, and when a full repack pays.

`confkeep.maintenance` holds the state as JSON. It is a memory and no truth: without it, or when it
makes no sense, the next repack acts as the first one.
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

#: Seconds between two full repacks, unless somebody asks for one.
FULL_INTERVAL_S: Final = 7 * 86_400.0

#: What a full repack is expected to leave of what was added, before the first one has shown it.
_FIRST_RATIO: Final = 0.5
#: Bytes, and part of the repository, that a full repack must be expected to save.
_LEAST_SAVING_BYTES: Final = 1 << 20
_LEAST_SAVING: Final = 0.1


@dataclass(frozen=True, slots=True)
class State:
    """When each was last done, in seconds since 1970; 0 if never."""

    repacked_at: float = 0.0
    full_at: float = 0.0
    #: Bytes in packs after the last full repack.
    full_bytes: int = 0
    #: What the last full repack left of the bytes that were added since the one before, 0 to 1.
    ratio: float = _FIRST_RATIO
    #: Why the last repack, or the full one that was due, did not run; empty: it did.
    skipped: str = ""
    skipped_at: float = 0.0

    def without_skip(self) -> State:
        """After a repack that ran."""
        return dataclasses.replace(self, skipped="", skipped_at=0.0)


def read_state(path: Path) -> State:
    """The state of the repository at `path`; that of a new one when there is none."""
    try:
        values = json.loads((path / STATE_NAME).read_bytes())
        return State(
            repacked_at=float(values["repacked_at"]),
            full_at=float(values["full_at"]),
            full_bytes=int(values["full_bytes"]),
            ratio=min(1.0, max(0.0, float(values["ratio"]))),
            skipped=str(values["skipped"]),
            skipped_at=float(values["skipped_at"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return State()


def write_state(path: Path, state: State) -> None:
    """Remember `state`.

    Raises:
        OSError: the file system refused.
    """
    text = json.dumps(dataclasses.asdict(state), indent=1)
    durable.replace_file(path / STATE_NAME, text.encode() + b"\n")


def why_no_full(state: State, size_bytes: int, now: float) -> str | None:
    """Why a full repack would come too early or save too little; None if it pays.

    The estimate: what was added since the last one shrinks as what was added before that one did.
    Whatever the estimate says, a repository that has doubled is repacked.
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
    """Bytes that the file system of `path` holds, without what it keeps for root."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
