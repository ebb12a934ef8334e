"""Whether the worker was asked to end: a byte that the main process shares with its pool's children.

Only the main process receives the signal. A turn looks between two batches, so that a warm shutdown
waits for one batch, not for a whole slice.
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from celery import bootsteps
from celery.platforms import EX_OK
from celery.worker import state

from confkeep.observe.logs import get_logger
from worker.process.outage import outage

log = get_logger("shutdown")

#: Seconds after which a worker that was asked to end waits no longer for a server that is away, and between
#: two looks from then on. Celery closes what it has open at the server piece by piece, and each piece waits for
#: its own time-out.
_PATIENCE_S: Final = 8.0
_LOOK_S: Final = 0.5

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
    return _shared is not None and _shared[0] == 1


class ShutdownStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Asks as soon as a signal comes, in the main process.

    Celery's own hook comes too late for a cold shutdown (`REMAP_SIGTERM=SIGQUIT`): after the
    whole time that its soft shutdown gives the running tasks.
    """

    def start(self, parent: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Put ours before Celery's handlers, which are there by now."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, functools.partial(_ask, before))
        signal.signal(signal.SIGALRM, _end_without_the_server)


def _ask(
    handler: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None
) -> None:
    request()
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S, _LOOK_S)
    handler(number, frame)
    if number == signal.SIGINT:
        # To Celery, Ctrl-C is a failure, also when the worker ends in order.
        state.should_stop = EX_OK


def _end_without_the_server(_number: int, _frame: FrameType | None) -> None:
    """End as if killed: nothing can be settled, and whoever comes next finds all of it."""
    if outage.lasts:
        log.warning("ended without the server, which is away", action="shutdown.away")
        os._exit(EX_OK)
