"""The signals that end a command: noted when they come, acted on where nothing is half done.

Python raises KeyboardInterrupt wherever the main thread is. In a finalizer it is lost; between
the start of a child and the line that remembers it, the child is lost.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Whether the command was asked to end. Of the main thread only."""

    def __init__(self) -> None:
        self._noted = False
        self._held = False

    def check(self) -> None:
        """Return if nobody asked the command to end.

        Raises:
            KeyboardInterrupt: somebody did.
        """
        if self._noted:
            raise KeyboardInterrupt

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """The signals' handler. The second signal does not wait: what is called may be stuck."""
        if self._noted and not self._held:
            raise KeyboardInterrupt
        self._noted = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold back all these signals while the block runs, even a second one."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


@contextmanager
def noted() -> Iterator[Interrupts]:
    """Note Ctrl-C, SIGTERM and SIGHUP while the block runs; it looks often whether one came.

    A signal that our parent had us ignore, as `nohup` does, stays ignored.

    Raises:
        KeyboardInterrupt: at the block's end, when one came and the block did not look any more.
    """
    interrupts = Interrupts()
    numbers = [number for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.note) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    interrupts.check()
