"""confkeep's Celery app with a control command that hangs the worker's loop."""

from __future__ import annotations

import time
from typing import Any

from celery.worker.control import control_command

from worker.app import app

__all__ = ["app"]


@control_command(name="hang", args=[("seconds", float)])  # type: ignore[untyped-decorator]
def hang(state: Any, seconds: float) -> None:
    """Keep the loop from turning."""
    time.sleep(seconds)
