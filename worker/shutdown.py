"""Whether the worker was asked to end; a byte that the main process shares with its pool's children.

Only the main process receives the signal. A turn looks between two batches, so that a warm
shutdown costs the batch in hand and not the rest of a slice.
"""

from __future__ import annotations

import mmap

_shared: mmap.mmap | None = None


def prepare() -> None:
    """Create the byte; in the main process, before it forks."""
    global _shared
    if _shared is None:
        _shared = mmap.mmap(-1, 1)
    _shared[0] = 0


def request() -> None:
    """Ask all turns of this worker to end after their batch."""
    if _shared is not None:
        _shared[0] = 1


def requested() -> bool:
    """Whether they were asked."""
    return _shared is not None and _shared[0] == 1
