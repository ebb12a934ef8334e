"""Whether the worker was asked to end: a byte that the main process shares with its pool's children.

Only the main process receives the signal. A turn looks between two batches, so that a warm shutdown
waits for one batch, not for a whole slice.
"""

from __future__ import annotations

import functools
import mmap
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_shared: mmap.mmap | None = None


def prepare() -> None:
    """Create the byte; in the main process, before it forks."""
    global _shared
    if _shared is None:
        _shared = mmap.mmap(-1, 1)
    _shared[0] = 0


def request(**_: Any) -> None:
    """Ask all turns of this worker to end after their batch; as a receiver of Celery's signal too."""
    if _shared is not None:
        _shared[0] = 1


def watch_signals(**_: Any) -> None:
    """Ask as soon as the signal comes, in the main process.

    Celery's own hook comes too late for a cold shutdown (`REMAP_SIGTERM=SIGQUIT`): after the
    whole time that its soft shutdown gives the running tasks.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT):
        before = signal.getsignal(number)
        if callable(before):
            signal.signal(number, functools.partial(_request_and, before))


def _request_and(
    handler: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None
) -> None:
    request()
    handler(number, frame)


def requested() -> bool:
    return _shared is not None and _shared[0] == 1
