"""Repair and retention on a full disk: a plain error, nothing left behind, and all goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import small_disk

_BEGIN = """
import os, random, sys, time, uuid
from pathlib import Path
from confkeep.errors import StoreUnavailable
from tests import small_disk
from tests.judge import assert_sound
from worker.store.git import durable
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting import prune
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

disk = Path(sys.argv[1])
path = disk / "aaaa1111-0000-4000-8000-000000000001.git"
chance = random.Random(1)
writer = Writer(create_repository(path))
for _ in range(8):
    id_ = str(uuid.UUID(int=chance.getrandbits(128)))
    device = "beef0001-0000-4000-8000-000000000001"
    writer.commit_backups([Backup(id_, device, chance.randbytes(60_000), None, "m")])

def refused(free, call):
    ballast = small_disk.fill(disk)
    os.truncate(ballast, ballast.stat().st_size - free)
    try:
        with durable.file_system_errors(path.name):
            call()
    except StoreUnavailable as error:
        assert "no space left" in str(error), error
        assert error.hint == f"Free space on the disk of {path.name}.", error.hint
    else:
        raise AssertionError("it took no notice")
    assert not [file for file in path.rglob("*") if "tmp_" in file.name]
    ballast.unlink()
"""
_REPAIR = """
idx = next((path / "objects" / "pack").glob("*.idx"))
idx.chmod(0o600)
with idx.open("r+b") as file:
    file.seek(1100)
    file.write(b"?")
report = verify_repository(path)
refused(0, lambda: repair_repository(report))
assert repair_repository(report).mended
"""
_RETENTION = """
def apply():
    policy = policy_of({"keep_last": 4})
    return apply_retention(open_repository(path), policy, now_s=int(time.time()), grace_s=-1)
refused(100_000, apply)
assert prune.is_due(path)
apply()
assert not prune.is_due(path)
"""


@pytest.mark.parametrize("script", [_REPAIR, _RETENTION], ids=["repair", "retention"])
def test_a_full_disk_is_no_damage(script: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", f"{_BEGIN}{script}assert_sound(path)", str(tmp_path)]
    done = subprocess.run(
        small_disk.command(tmp_path, "size=2m", program),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
