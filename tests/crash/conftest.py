"""What the crash tests share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A folder for many small repositories, where the tests' other files are: in memory if that has room."""
    with tempfile.TemporaryDirectory(prefix="confkeep-crash-") as folder:
        yield Path(folder)
