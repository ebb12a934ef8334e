"""Every state that a power cut may leave of a store's id: once it is noted in Redis, the store has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.crash.power_cuts import problems_of, traced
from tests.crash.writer import leave_out_syncs
from worker.store.repository import store_id

OWN = "ab" * 16

SYNCS: dict[str, Callable[[str], bool]] = {
    "the file not synced": lambda path: f"/.{store_id.FILE_NAME}-" in path,
    "the folder not synced": lambda path: path.endswith("/root"),
}


def bad_states(tmp_path: Path, fresh: Path, mutant: str = "") -> list[str]:
    root = tmp_path / "root"
    root.mkdir()
    command = [sys.executable, "-m", "tests.crash.test_store_states", str(root), mutant]
    cuts = traced([command], root)
    assert len(cuts[-1].acknowledged) == 1

    def judge(where: Path, acknowledged: Sequence[str]) -> str | None:
        found = store_id.read(where)
        if found == OWN or (found is None and not acknowledged):
            return None
        return f"it has the id {found}"

    return list(problems_of(cuts, judge, fresh))


def test_no_power_cut_takes_a_store_its_id(tmp_path: Path, fresh: Path) -> None:
    assert bad_states(tmp_path, fresh) == []


@pytest.mark.parametrize("mutant", SYNCS)
def test_the_check_finds_a_sync_that_is_left_out(mutant: str, tmp_path: Path, fresh: Path) -> None:
    assert bad_states(tmp_path, fresh, mutant)


if __name__ == "__main__":
    if sys.argv[2]:
        leave_out_syncs(SYNCS[sys.argv[2]])
    store_id.write(Path(sys.argv[1]), OWN)
    os.write(1, b"ACK\n")
