"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge import judged
from worker.store.verify import verify_repository


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store's folder. When the test ends, git and our own verify judge every repository in it."""
    with judged(tmp_path / "git-store") as folder:
        yield folder
        for path in sorted(folder.glob("*.git")):
            assert verify_repository(path).findings == [], path
