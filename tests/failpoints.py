"""Ends a step of the store where a failpoint is, in the test's own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from worker.store.git import durable


class Killed(BaseException):
    """As a kill: nothing of the store may catch it."""


@contextmanager
def raising(failpoint: str, error: BaseException) -> Iterator[None]:
    """Within the block that failpoint raises `error`."""

    def at_failpoint(name: str) -> None:
        if name == failpoint:
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "on_failpoint", at_failpoint)
        yield


@contextmanager
def killed_at(failpoint: str) -> Iterator[None]:
    """The block must come to that failpoint, and ends there."""
    with raising(failpoint, Killed()), pytest.raises(Killed):
        yield


def die_at(failpoint: str) -> None:
    """Let this process be killed when it comes to that failpoint."""

    def at_failpoint(name: str) -> None:
        if name == failpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    durable.on_failpoint = at_failpoint
