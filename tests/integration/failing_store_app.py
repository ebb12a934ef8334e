"""confkeep's Celery app with a store that refuses while a file says so: the file holds the errno."""

from __future__ import annotations

import os
from pathlib import Path

from worker.app import app
from worker.store.git import durable

__all__ = ["VARIABLE", "app"]

#: Names the file.
VARIABLE = "CONFKEEP_TEST_FAULT"


def _refuse(name: str) -> None:
    fault = Path(os.environ[VARIABLE])
    if name == "pack-written" and fault.exists():
        number = int(fault.read_text())
        raise OSError(number, os.strerror(number))


if VARIABLE in os.environ:
    durable.on_failpoint = _refuse
