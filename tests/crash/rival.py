"""One of several writers of the same tenant that know nothing of each other.

    python -m tests.crash.rival PATH NUMBER COMMITS

Each commit adds a backup of the writer's own device; one that another writer got ahead of is tried
again with the same backup.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from confkeep.errors import RepositoryBusy
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer


def main(path: Path, number: int, commits: int) -> None:
    """Commit, and say how often another was faster."""
    device_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"rival {number}"))
    writer = Writer(create_repository(path))
    busy = 0
    for commit in range(commits):
        text = f"/system identity set name=w{number}c{commit}\n".encode()
        backup = Backup(str(uuid.uuid4()), device_id, text, None, f"{number} {commit}")
        while True:
            try:
                writer.commit_backups([backup])
                break
            except RepositoryBusy:
                busy += 1
    print(busy)


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
