"""Maintenance by itself: workers repack what they commit, and mark what looks bad."""

from __future__ import annotations

import uuid

import pytest

from confkeep.broker import keys
from confkeep.settings import get_settings
from tasks import InvalidBackup, Receipt, enqueue_backup
from tasks.read import history
from tests.bench.fleet import Fleet
from tests.integration.conftest import with_variables
from tests.judge import backup_ids, git
from tests.servers import Deployment, wait_for
from worker.store.upkeep.repack_state import read_state


@with_variables({"CONFKEEP_REPACK_PACKS": "10"})
def test_a_worker_repacks_beside_its_commits(deployed: Deployment) -> None:
    fleet, tenant = Fleet(3), str(uuid.uuid4())
    deployed.start_worker()
    path = deployed.store / f"{tenant}.git"
    ids = []
    for _ in range(60):
        backup = fleet.batch(1)[0]
        answer = enqueue_backup(tenant, backup.device_id, backup.export.decode(), None, "m")
        answer.get(timeout=30)
        ids.append(answer.id)

    def small() -> bool:
        packs = git(path, "count-objects", "-v").decode().split("packs: ")[1].split()[0]
        return int(packs) <= 15

    wait_for(small, "the repack")
    wait_for(lambda: read_state(path).repacked_at > 0, "its note")
    assert backup_ids(path) == ids
    assert "repacked a repository" in deployed.log.read_text()
    with deployed.client() as client:
        wait_for(lambda: not client.exists(keys.repack(tenant)), "the flag to go")


def test_a_suspect_capture_is_committed_and_marked(deployed: Deployment) -> None:
    deployed.start_worker(pool="threads")
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    good = Receipt(**enqueue_backup(tenant, device, "/ip\n", None, "m").get(timeout=30))
    bad = Receipt(**enqueue_backup(tenant, device, "Bus error\n", None, "m").get(timeout=30))
    assert (good.suspect, good.warnings) == (None, [])
    assert bad.suspect == "the export holds an error: Bus error"
    assert bad.warnings == [f"This capture looks bad or failed: {bad.suspect}."]
    assert [one["suspect"] for one in history(tenant, device)] == [bad.suspect, None]


def test_a_suspect_capture_can_be_refused(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFKEEP_REJECT_SUSPECT", "1")
    get_settings.cache_clear()
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    with pytest.raises(InvalidBackup, match=r"export_text: looks bad or failed: .*Bus error"):
        enqueue_backup(tenant, device, "Bus error\n", None, "m")
    with pytest.raises(InvalidBackup, match=r"binary_backup: .* 0 bytes"):
        enqueue_backup(tenant, device, "/ip\n", b"", "m")
    with deployed.client() as client:
        assert not client.exists(keys.inbox(tenant))
