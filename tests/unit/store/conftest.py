"""What the tests of the store share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

TENANT = "7a1e0c5e-5f0b-4a3b-9f57-0f1f4a6e2a10"


@pytest.fixture
def path(store: Path) -> Path:
    """Where a tenant's repository is to be; judged when the test ends."""
    return store / f"{TENANT}.git"


@pytest.fixture
def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in git's place, which tells its version by itself."""
    program = tmp_path / "bin" / "git"

    def put(script: str) -> None:
        program.parent.mkdir(exist_ok=True)
        version = 'case "$*" in *version*) echo git version 2.40.0; exit;; esac'
        program.write_text(f"#!/bin/sh\n{version}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put
