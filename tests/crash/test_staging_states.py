"""Every state that a power cut may leave of staged files: what was staged is there, with its bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from confkeep.errors import StagedBytesDamaged, StagedBytesMissing
from confkeep.queue.entry import Entry
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import VolumeStaging, checked
from tests.crash.power_cuts import problems_of, traced
from tests.crash.writer import leave_out_syncs

TENANT = "7a1e0c5e-5f0b-4a3b-9f57-0f1f4a6e2a10"
CONTENTS = [Contents(b"/ip address\nadd\n" * 20, bytes(range(200))), Contents(b"/system\n", None)]

SYNCS: dict[str, Callable[[str], bool]] = {
    "the file not synced": lambda path: "/.tmp-" in path,
    "the tenant's folder not synced": lambda path: path.endswith(f"/{TENANT}"),
    "the folder above not synced": lambda path: path.endswith("/staged"),
}


def entry_of(number: int) -> Entry:
    contents = CONTENTS[number % len(CONTENTS)]
    binary = contents.binary
    return Entry(
        backup_id=f"8241bc24-49a6-4e8b-856f-ca55e1ce5a{number:02x}",
        device_id="f3eb590c-a135-45eb-804f-98c57b2b1978",
        message="poll",
        captured_at=None,
        export_bytes=len(contents.export),
        export_sha256=hashlib.sha256(contents.export).hexdigest(),
        binary_bytes=None if binary is None else len(binary),
        binary_sha256=None if binary is None else hashlib.sha256(binary).hexdigest(),
        staging="volume",
    )


def stage(folder: Path) -> None:
    """Stage two backups; an ACK after each."""
    volume = VolumeStaging(folder)
    for number, contents in enumerate(CONTENTS):
        volume.stage(TENANT, entry_of(number), contents)
        os.write(1, b"ACK\n")


def problem_of(folder: Path, acknowledged: int) -> str | None:
    volume = VolumeStaging(folder)
    try:
        for number in range(2):
            entry = entry_of(number)
            (found,) = volume.read(TENANT, [entry])
            # Under its final name a file is whole, acknowledged or not.
            if found is not None or number < acknowledged:
                checked(entry, found)
    except (StagedBytesMissing, StagedBytesDamaged) as error:
        return str(error)
    # Whoever repeats the call heals what is there.
    shutil.copytree(folder, folder.with_name("again"), dirs_exist_ok=True)
    for number, contents in enumerate(CONTENTS):
        VolumeStaging(folder.with_name("again")).stage(TENANT, entry_of(number), contents)
    return None


def bad_states(tmp_path: Path, fresh: Path, mutant: str = "") -> tuple[int, list[str]]:
    root = tmp_path / "root"
    root.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.crash.test_staging_states",
        str(root / "staged"),
        mutant,
    ]
    cuts = traced([command], root)
    assert len(cuts[-1].acknowledged) == 2

    def judge(where: Path, acknowledged: Sequence[str]) -> str | None:
        (where / "staged").mkdir(exist_ok=True)
        return problem_of(where / "staged", len(acknowledged))

    return len(cuts), list(problems_of(cuts, judge, fresh))


def test_no_state_after_a_power_cut_loses_staged_bytes(tmp_path: Path, fresh: Path) -> None:
    count, problems = bad_states(tmp_path, fresh)
    assert problems == []
    assert count > 10
    print(f"{count} states")


@pytest.mark.parametrize("mutant", SYNCS)
def test_the_check_finds_staging_that_leaves_a_sync_out(
    mutant: str, tmp_path: Path, fresh: Path
) -> None:
    assert bad_states(tmp_path, fresh, mutant)[1]


if __name__ == "__main__":
    if sys.argv[2]:
        leave_out_syncs(SYNCS[sys.argv[2]])
    stage(Path(sys.argv[1]))
