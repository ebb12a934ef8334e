"""Notes the signals that end a command, so that it ends where nothing is half done.

Python raises KeyboardInterrupt wherever the main thread is. In a finalizer it gets lost. Between
the start of a child process and the line that stores it, the child gets lost.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Whether a signal has asked the command to end. For the main thread only."""

    def __init__(self) -> None:
        self._noted = False
        self._held = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has asked the command to end."""
        if self._noted:
            raise KeyboardInterrupt

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Handle a signal. A second one raises at once, since the code that runs may be stuck."""
        if self._noted and not self._held:
            raise KeyboardInterrupt
        self._noted = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal interrupt the block, not even a second one."""
        self._held = True
        try:
            yield
        finally:
            self._held = False


@contextmanager
def noted() -> Iterator[Interrupts]:
    """Note Ctrl-C, SIGTERM and SIGHUP while the block runs; the block calls `check` often.

    A signal that our parent process made us ignore, as `nohup` does, stays ignored.

    Raises:
        KeyboardInterrupt: at the block's end, if a signal came after its last `check`.
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
