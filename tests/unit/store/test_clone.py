"""A clone that is stopped leaves nobody who writes into its folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from worker.store.upkeep.clone import clone_repository

#: A git whose helper writes on when git itself is gone.
_GIT = """#!/bin/sh
[ "$1" = version ] && exec echo git version 2.39.5
for target; do :; done
(while :; do mkdir -p "$target/objects/$$"; rmdir "$target/objects/$$"; : > "$target/busy"; done) &
wait
"""


def test_what_git_started_has_ended_when_a_clone_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, target = tmp_path / "bin" / "git", tmp_path / "clone.git"
    program.parent.mkdir()
    program.write_text(_GIT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    busy = target / "busy"
    assert clone_repository(tmp_path, target, stop=busy.exists) is not None
    shutil.rmtree(target)
    assert not target.exists()
    # Nobody makes it again.
    assert not any(target.exists() for _ in range(10_000))
