"""A plain Celery client that sends a backup to where no worker reads hears of it, and so does status."""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Iterator

import pytest
from celery import Celery
from click.testing import CliRunner

from confkeep.broker import keys
from tests.servers import Deployment
from worker.broker import acl
from worker.cli import cli
from worker.process.local import EmbeddedServer

TENANT, DEVICE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def plain_client(server: EmbeddedServer) -> Celery:
    url = f"redis+socket://{server.socket}?virtual_host=0"
    return Celery("portal", broker=url, backend=url, set_as_current=False)


def backup(backup_id: str | None = None) -> dict[str, str]:
    return {
        "backup_id": backup_id or str(uuid.uuid4()),
        "tenant_id": TENANT,
        "device_id": DEVICE,
        "message": "poll",
        "export_text": "/ip\n",
    }


@pytest.fixture
def portal(deployed: Deployment) -> Iterator[Celery]:
    with plain_client(deployed.server) as client:
        yield client
        # Results that go later would ask a server that has ended.
        gc.collect()


def test_a_client_that_names_no_queue_is_told(deployed: Deployment, portal: Celery) -> None:
    wrong = backup()
    theirs = portal.send_task("portal.cleanup", kwargs={"tenant_id": TENANT, "device_id": DEVICE})
    sent = portal.send_task("backups.receive", kwargs=wrong)
    with deployed.client() as client:
        client.rpush("celery", "somebody else's")
        before = client.lrange("celery", 0, -1)
        status = CliRunner().invoke(cli, ["status"], catch_exceptions=False).stdout
        assert "the queue 'celery'" in status
        assert "1 backup" in status
        assert "queue='backups.receive'" in status
        as_json = CliRunner().invoke(cli, ["status", "--json"], catch_exceptions=False).stdout
        assert json.loads(as_json)["astray"] == [sent.id]

        deployed.start_worker()
        answer = sent.get(timeout=30, propagate=False)
        assert type(answer).__name__ == "InvalidBackup"
        assert "send it with queue='backups.receive'" in str(answer)
        # It is another program's queue: all is where it was, and nobody else is told anything.
        assert client.lrange("celery", 0, -1) == before
        assert client.get(keys.result(theirs.id)) is None
    # Once the client names the queue, the same backup is committed.
    again = portal.send_task("backups.receive", queue="backups.receive", kwargs=wrong)
    assert again.get(timeout=30)["backup_id"] == wrong["backup_id"]
    assert deployed.log.read_text().count("that no worker of confkeep reads") == 1


def test_routes_and_priorities_reach_the_workers(deployed: Deployment, portal: Celery) -> None:
    portal.conf.task_routes = {"backups.*": {"queue": "backups.receive"}}
    routed = portal.send_task("backups.receive", kwargs=backup())
    urgent = [
        portal.send_task("backups.receive", kwargs=backup(), priority=priority)
        for priority in (3, 9)
    ]
    deployed.start_worker()
    for sent in (routed, *urgent):
        assert sent.get(timeout=30)["tenant_id"] == TENANT


def test_a_worker_and_a_monitor_of_few_rights_may_only_look() -> None:
    for role in ("worker", "monitor"):
        line = acl.ROLES[role](acl.User(role, "0" * 64))
        assert "%R~celery" in line
        assert "%W~celery" not in line
        assert " ~celery " not in line
