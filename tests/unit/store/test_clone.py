"""A clone that is stopped leaves nobody who writes into its folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests import small_disk
from worker.store.upkeep.clone import clone_repository

#: A git whose helper writes on when git itself is gone.
_GIT = """
for target; do :; done
(while :; do mkdir -p "$target/objects/$$"; rmdir "$target/objects/$$"; : > "$target/busy"; done) &
wait
"""

_CLONE = """
import random, sys
from pathlib import Path
from confkeep.errors import StoreUnavailable
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.upkeep.clone import clone_repository
from worker.store.writing.commit import Writer
path, disk = map(Path, sys.argv[1:])
ids = ["aaaa1111-0000-4000-8000-00000000000%d" % n for n in range(2)]
Writer(create_repository(path)).commit_backups(
    [Backup(*ids, random.Random(1).randbytes(1 << 20), None, "m")]
)
try:
    print(clone_repository(path, disk / "clone.git"))
except StoreUnavailable as error:
    print(error, error.hint, sep="\\n")
"""


def test_a_clone_for_which_there_is_no_room_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "scratch"
    disk.mkdir()
    program = [sys.executable, "-c", _CLONE, str(tmp_path / "a.git"), str(disk)]
    done = subprocess.run(
        small_disk.command(disk, "size=512k", program), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{disk}: no space left on the device",
        "Free space there, or name another folder with --scratch.",
    ]


def test_what_git_started_has_ended_when_a_clone_is_stopped(
    tmp_path: Path, fake_git: Callable[[str], None]
) -> None:
    fake_git(_GIT)
    target = tmp_path / "clone.git"
    busy = target / "busy"
    assert clone_repository(tmp_path, target, stop=busy.exists) is not None
    shutil.rmtree(target)
    assert not target.exists()
    # Nobody makes it again.
    assert not any(target.exists() for _ in range(10_000))
