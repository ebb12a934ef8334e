"""A full disk, and memory under the largest batches."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import small_disk
from tests.crash import strace
from tests.crash.test_crash_states import TENANT
from tests.judge import git
from worker.store.git.git_objects import GitObjects, git_for_objects
from worker.store.repository.tenant_repository import create_repository


def said_by(command: list[str]) -> str:
    done = subprocess.run(
        command,
        env=strace.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", ["size=2m", "size=64m,nr_inodes=48"])
def test_a_full_disk_is_a_clear_error_and_harms_nothing(options: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.crash.full_disk", str(tmp_path)]
    assert said_by(small_disk.command(tmp_path, options, program)) == "all is well\n"
    assert not list(tmp_path.iterdir())


_PEAK = """
import random, re, sys, uuid
from pathlib import Path
from worker.store.repository.backup import Backup
from worker.store.writing.commit import Writer
from worker.store.repository.tenant_repository import create_repository
count, size = int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(1)
writer = Writer(create_repository(Path(sys.argv[1])))
export = b"/system identity set name=r1\\n" * 700
for _ in range(3):
    writer.commit_backups([
        Backup(str(uuid.uuid4()), str(uuid.uuid4()), export, chance.randbytes(size), "m")
        for _ in range(count)
    ])
# Not ru_maxrss: that begins with what the parent had when it forked.
status = Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


@pytest.mark.parametrize(("count", "size"), [(256, 256 * 1024), (1, 80 * 1024 * 1024)])
def test_memory_stays_bounded(count: int, size: int, tmp_path: Path) -> None:
    peak = said_by([sys.executable, "-c", _PEAK, str(tmp_path / TENANT), str(count), str(size)])
    assert int(peak) < 300, f"{peak.strip()} MiB at its peak"
    print(f"{count} of {size} bytes: {peak.strip()} MiB")


def test_git_reads_a_large_pack_in_bounded_memory(tmp_path: Path) -> None:
    """It would map all of it: 120 MB here."""
    path = tmp_path / TENANT
    create_repository(path)
    chance, size = random.Random(1), 12_000_000
    blobs = b"".join(b"blob\ndata %d\n%b\n" % (size, chance.randbytes(size)) for _ in range(10))
    git(
        path,
        "-c",
        "core.compression=0",
        "-c",
        "fastimport.unpackLimit=1",
        "fast-import",
        "--quiet",
        # Between random bytes it would search for deltas in vain, for most of the test's time.
        "--depth=0",
        stdin=blobs,
    )
    assert sum(pack.stat().st_size for pack in path.glob("objects/pack/*.pack")) > 10 * size
    with git_for_objects(path) as reading, GitObjects(reading) as objects:
        peaks = []
        for _id, _kind, data in objects.each(objects.ids()):
            assert isinstance(data, bytes)
            children = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
            for each in (Path("/proc", child) for child in children):
                if b"cat-file" in (each / "cmdline").read_bytes():
                    status = (each / "status").read_text()
                    peaks += re.findall(r"VmHWM:\s+(\d+) kB", status)
    # When the last one is read, git may have ended.
    assert len(peaks) >= 9
    assert max(map(int, peaks)) // 1024 < 110
