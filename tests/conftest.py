"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge import judged


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store's folder. Real git judges every repository in it when the test ends."""
    with judged(tmp_path / "git-store") as folder:
        yield folder
