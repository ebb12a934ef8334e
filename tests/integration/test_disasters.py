"""Disaster recovery as docs/operate.md tells it: the store comes back from its mirror, the broker from nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from confkeep.models import BackupFields
from docs.generate import ROOT
from tasks import enqueue_backups
from tests.judge import assert_all_readable, backup_ids
from tests.servers import Deployment
from worker.app import app
from worker.process.local import find_server
from worker.store.upkeep.verify import verify_repository

EXAMPLES = ROOT / "docs" / "examples"
TENANTS = [str(uuid.UUID(int=n + 1)) for n in range(2)]


def polled(numbers: range) -> list[BackupFields]:
    """What a producer would hand over again, in its order: the same ids, the same bytes."""
    return [
        {
            "tenant_id": tenant,
            "device_id": str(uuid.uuid5(uuid.UUID(tenant), f"{number % 3}")),
            "export_text": f"/ip address\nadd address=10.0.0.{number}\n",
            "binary_backup": b"\x88\xac\xa1\xb1%d" % number,
            "message": f"poll {number}",
            "backup_id": str(uuid.uuid5(uuid.UUID(tenant), f"poll {number}")),
        }
        for number in numbers
        for tenant in TENANTS
    ]


def ids_of(backups: list[Any], tenant: str) -> list[str]:
    return [backup["backup_id"] for backup in backups if backup["tenant_id"] == tenant]


def receipts_of(backups: list[BackupFields]) -> list[Any]:
    return [result.get(timeout=30) for result in enqueue_backups(backups)]


def script(name: str, *arguments: str | Path) -> None:
    path = f"{Path(find_server()).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(EXAMPLES / name), *map(str, arguments)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_store_and_broker_come_back(deployed: Deployment, tmp_path: Path) -> None:
    old, new, waiting = polled(range(6)), polled(range(6, 9)), polled(range(9, 10))
    worker = deployed.start_worker("w1", concurrency=2, pool="threads")
    receipts_of(old)
    rules = deployed.store / f"{TENANTS[0]}.git" / "confkeep.retention"
    rules.write_text('{"keep_last": 1000}')
    mirror, copy = tmp_path / "mirror", tmp_path / "copy"
    script("mirror_store.sh", deployed.store, mirror)
    receipts_of(polled(range(3)))  # answered again, committed once
    if shutil.which("rsync"):
        script("rsync_store.sh", deployed.store, copy)
        assert all(verify_repository(path).findings == [] for path in copy.glob("*.git"))
    receipts_of(new)

    # The store is lost. Producers go on meanwhile.
    worker.stop()
    shutil.rmtree(deployed.store)
    results = enqueue_backups(waiting)
    shutil.copytree(mirror, deployed.store)
    assert rules.read_text() == '{"keep_last": 1000}'
    for tenant in TENANTS:
        path = deployed.store / f"{tenant}.git"
        assert verify_repository(path).findings == []
        assert backup_ids(path) == ids_of(old, tenant)
    # Why the broker has to forget: an id with a receipt is taken for done.
    [done] = enqueue_backups(new[:1])
    assert done.state == "SUCCESS"
    script("forget_receipts.sh", "-s", deployed.server.socket)
    deployed.start_worker("w2", concurrency=2, pool="threads")
    receipts = receipts_of(new)
    for result in results:
        app.AsyncResult(result.id).get(timeout=30)
    for tenant in TENANTS:
        committed = backup_ids(deployed.store / f"{tenant}.git")
        assert sorted(committed) == sorted(ids_of([*old, *new, *waiting], tenant))
        assert {one["backup_id"] for one in receipts if one["tenant_id"] == tenant} <= {*committed}

    # A later mirror of a history that went on is the same history.
    script("mirror_store.sh", deployed.store, mirror)
    for tenant in TENANTS:
        committed = backup_ids(deployed.store / f"{tenant}.git")
        assert backup_ids(mirror / f"{tenant}.git") == committed

    # The broker is lost, with what it had accepted; the worker runs on.
    deployed.server.kill()
    shutil.rmtree(deployed.server.data)
    deployed.server.start()
    again = polled(range(12))
    assert len(receipts_of(again)) == len(again)
    for tenant in TENANTS:
        path = deployed.store / f"{tenant}.git"
        assert sorted(backup_ids(path)) == sorted(ids_of(again, tenant))
        assert verify_repository(path).findings == []
    assert_all_readable(mirror)
