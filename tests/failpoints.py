"""Ends a step of the store where a failpoint is, in the test's own process.

Without pytest: each of hundreds of crash programs imports this, and pytest takes half of their start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from worker.store.git import durable


class Killed(BaseException):
    """As a kill: nothing of the store may catch it."""


@contextmanager
def raising(failpoint: str, error: BaseException) -> Iterator[None]:
    """Within the block that failpoint raises `error`."""

    def at_failpoint(name: str) -> None:
        if name == failpoint:
            raise error

    before, durable.on_failpoint = durable.on_failpoint, at_failpoint
    try:
        yield
    finally:
        durable.on_failpoint = before


@contextmanager
def killed_at(failpoint: str) -> Iterator[None]:
    """The block must come to that failpoint, and ends there."""
    try:
        with raising(failpoint, Killed()):
            yield
    except Killed:
        return
    raise AssertionError(f"it did not come to {failpoint}")


def die_at(failpoint: str) -> None:
    """Let this process be killed when it comes to that failpoint."""

    def at_failpoint(name: str) -> None:
        if name == failpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    durable.on_failpoint = at_failpoint
