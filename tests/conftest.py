"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge import judged
from tests.planted import assert_no_secrets, logs_below
from worker.store.verify import verify_repository


@pytest.fixture(scope="session", autouse=True)
def _no_secrets_in_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When all tests of this process have run, no log that they left holds what they planted."""
    yield
    assert_no_secrets(logs_below(tmp_path_factory.getbasetemp()))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store's folder. When the test ends, git and our own verify judge every repository in it."""
    with judged(tmp_path / "git-store") as folder:
        yield folder
        for path in sorted(folder.glob("*.git")):
            assert verify_repository(path).findings == [], path
