"""What the crash tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A folder for many small repositories, in memory where there is such."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="confkeep-crash-", dir=base))
    yield path
    shutil.rmtree(path)
