"""What a disk that is full does to a writer; run by a test on a disk of its own.

    python -m tests.crash.full_disk FOLDER

FOLDER is on a disk on which a few commits find room.
"""

from __future__ import annotations

import random
import sys
import uuid
from pathlib import Path

from confkeep.errors import StoreUnavailable
from tests.crash.test_crash_states import TENANT
from tests.judge import assert_readable, assert_sound, git
from worker.store.repository.backup import Backup, Committed
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

DEVICE = "0f6a8a0e-7d5c-4a43-8c1c-3f1f2a4f9b11"


def main(disk: Path) -> None:
    """Fill the disk: a clear error, main intact; free some: the same backup is committed."""
    chance = random.Random(1)
    path = disk / TENANT
    writer = Writer(create_repository(path))
    ballast = [disk / f"ballast {number}" for number in range(8)]
    for file in ballast:
        file.write_bytes(bytes(30_000))
    committed: list[Committed] = []
    try:
        while len(committed) < 200:
            backup = Backup(str(uuid.uuid4()), DEVICE, chance.randbytes(60_000), None, "m")
            committed += writer.commit_backups([backup])
    except StoreUnavailable as error:
        assert "no space left" in str(error)
        assert error.retryable
    assert 3 < len(committed) < 200
    assert git(path, "rev-parse", "main").decode().strip() == committed[-1].sha
    assert_sound(path)
    assert not [p for p in path.rglob("*") if "confkeep_" in p.name or p.suffix == ".lock"]
    for file in ballast:
        file.unlink()
    (answer,) = writer.commit_backups([backup])
    assert not answer.replayed
    assert git(path, "rev-list", "--count", "main").decode().strip() == str(len(committed) + 1)
    assert_readable(path)
    print("all is well")


main(Path(sys.argv[1]))
