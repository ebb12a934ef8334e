"""A full disk, and memory under the largest batches."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.test_crash_states import TENANT
from tests.judge import assert_sound, git
from worker.errors import StoreUnavailable
from worker.store.backup import Backup
from worker.store.commit import commit_backups
from worker.store.repository import create_repository

DEVICE = "0f6a8a0e-7d5c-4a43-8c1c-3f1f2a4f9b11"


@pytest.fixture(params=["size=2m", "size=64m,nr_inodes=48"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk on which a few commits find room."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", request.param, "confkeep-test", str(path)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("mounting a small disk needs root: THE FULL DISK IS NOT TESTED")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _backup(size: int, chance: random.Random) -> Backup:
    return Backup(str(uuid.uuid4()), DEVICE, chance.randbytes(size), None, "m")


def test_a_full_disk_is_a_clear_error_and_harms_nothing(small_disk: Path) -> None:
    chance = random.Random(1)
    path = small_disk / TENANT
    repository = create_repository(path)
    ballast = [small_disk / f"ballast {number}" for number in range(8)]
    for file in ballast:
        file.write_bytes(bytes(30_000))
    committed = []
    with pytest.raises(StoreUnavailable, match="no space left") as caught:
        for _ in range(200):
            backup = _backup(60_000, chance)
            committed += commit_backups(repository, [backup])
    assert caught.value.retryable
    assert len(committed) > 3
    assert git(path, "rev-parse", "main").decode().strip() == committed[-1].sha
    assert_sound(path)
    assert not [p for p in path.rglob("*") if "confkeep_" in p.name or p.suffix == ".lock"]
    for file in ballast:
        file.unlink()
    (answer,) = commit_backups(repository, [backup])
    assert not answer.replayed
    assert git(path, "rev-list", "--count", "main").decode().strip() == str(len(committed) + 1)
    assert_sound(path)


_PEAK = """
import random, resource, sys, uuid
from pathlib import Path
from worker.store.backup import Backup
from worker.store.commit import commit_backups
from worker.store.repository import create_repository
count, size = int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(1)
repository = create_repository(Path(sys.argv[1]))
export = b"/system identity set name=r1\\n" * 700
for _ in range(3):
    commit_backups(repository, [
        Backup(str(uuid.uuid4()), str(uuid.uuid4()), export, chance.randbytes(size), "m")
        for _ in range(count)
    ])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize(("count", "size"), [(256, 256 * 1024), (1, 80 * 1024 * 1024)])
def test_memory_stays_bounded(count: int, size: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(tmp_path / TENANT), str(count), str(size)],
        env=strace.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300, f"{done.stdout.strip()} MiB at its peak"
    print(f"{count} of {size} bytes: {done.stdout.strip()} MiB")
