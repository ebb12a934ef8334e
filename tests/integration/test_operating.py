"""What an operator does with a running deployment: verify, kick, dead letters, receipts, refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from confkeep.broker import keys
from confkeep.errors import InvalidInput, StoreUnavailable
from confkeep.settings import get_settings
from tasks import Receipt, enqueue_backup
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.cli import cli
from worker.process.local import EmbeddedServer
from worker.queue import backoff
from worker.queue.inbox import Inbox

SHARDS = 16


def new_id() -> str:
    return str(uuid.uuid4())


def confkeep(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def enqueue(tenant: str, number: int = 0) -> str:
    backup_id = enqueue_backup(tenant, new_id(), f"/ip {number}\n", b"\x88", f"{number}").id
    assert isinstance(backup_id, str)
    return backup_id


def test_verify_and_drill_as_tasks_report_as_the_commands_do(deployed: Deployment) -> None:
    deployed.start_worker(pool="threads")
    tenant = new_id()
    for number in range(3):
        app.AsyncResult(enqueue(tenant, number)).get(timeout=30)

    def ask(task: str, *arguments: object, **named: object) -> dict[str, object]:
        queue = keys.queue_of(tenant, SHARDS)
        found = app.send_task(task, args=arguments, kwargs=named, queue=queue).get(timeout=30)
        assert isinstance(found, dict)
        return found

    def verify(*arguments: object, **named: object) -> dict[str, object]:
        return ask("backups.verify", *arguments, **named)

    drilled = ask("backups.drill", tenant, sample=9)
    assert (drilled["outcome"], drilled["failed"], drilled["devices"]) == ("proven", 0, 3)
    with pytest.raises(InvalidInput):
        ask("backups.drill", tenant, sample=0)

    clean = verify(tenant)
    assert (clean["tenant_id"], clean["outcome"], clean["complete"]) == (tenant, "clean", True)
    assert (clean["commits"], clean["devices"], clean["findings"]) == (3, 3, [])
    halves = [verify(tenant, subset=f"{part}/2")["objects"] for part in (1, 2)]
    assert sum(int(str(objects)) for objects in halves) == clean["objects"]
    assert verify(tenant, max_duration_s=1e-6)["complete"] is False
    assert verify(new_id())["outcome"] == "missing"
    for wrong in ({"subset": "3/2"}, {"subset": 3}, {"max_duration_s": 0}, {"max_duration_s": "x"}):
        with pytest.raises(InvalidInput):
            verify(tenant, **wrong)
    with pytest.raises(InvalidInput):
        verify("../..")

    head = deployed.store / f"{tenant}.git" / "HEAD"
    head.write_bytes(b"nonsense")
    damaged = verify(tenant)
    (said,) = json.loads(confkeep("verify", tenant, "--json").stdout)["tenants"]
    assert damaged["outcome"] == "damaged"
    assert {**said, "duration_s": 0} == {**damaged, "duration_s": 0}
    assert confkeep("repair", tenant).exit_code == 0


def test_kick_commits_at_once_what_waits_for_its_next_try(deployed: Deployment) -> None:
    tenant = new_id()
    with deployed.client() as client:
        backup_id = enqueue(tenant)
        for _ in range(9):
            wait_s = backoff.failed(
                Inbox(client, get_settings(), tenant), StoreUnavailable("no space left")
            ).delay_s
        assert wait_s > 30
        deployed.start_worker(pool="threads")
        waiting = confkeep("receipt", backup_id)
        assert (waiting.exit_code, "waits" in waiting.stdout) == (16, True)
        stalled = confkeep("status").stdout
        assert f"{tenant}: stalled, 9 failed tries" in stalled
        assert "StoreUnavailable: no space left" in stalled

        assert confkeep("kick", tenant).exit_code == 0

        receipt = Receipt(**app.AsyncResult(backup_id).get(timeout=15))
        wait_for(lambda: not client.xlen(keys.inbox(tenant)), "the inbox to be empty")
        assert "Waiting after a fault" not in confkeep("status").stdout
    said = json.loads(confkeep("receipt", backup_id, "--json").stdout)
    assert (said["source"], said["receipt"]) == ("redis", receipt.model_dump(mode="json"))
    with deployed.client() as client:
        client.delete(keys.result(backup_id))
    again = json.loads(confkeep("receipt", backup_id, "--json").stdout)
    assert (again["source"], again["receipt"]) == ("git", said["receipt"])


def test_a_dead_letter_is_committed_when_its_cause_is_gone(deployed: Deployment) -> None:
    tenant = new_id()
    lost, kept = enqueue(tenant, 1), enqueue(tenant, 2)
    with deployed.client() as client:
        data = client.getdel(keys.staged(tenant, lost))
        assert isinstance(data, bytes)
        deployed.start_worker(pool="threads")
        app.AsyncResult(kept).get(timeout=30)
        failed = confkeep("receipt", lost)
        assert failed.exit_code == 21
        (letter,) = json.loads(confkeep("dead-letters", "list", "--json").stdout)["dead_letters"]
        assert (letter["backup_id"], letter["kind"]) == (lost, "StagedBytesMissing")

        client.set(keys.staged(tenant, lost), data)
        assert confkeep("dead-letters", "retry", lost).exit_code == 0

        wait_for(lambda: confkeep("receipt", lost).exit_code == 0, "the receipt", 15)
        assert confkeep("dead-letters", "list").stdout == "No dead letters.\n"
        assert confkeep("history", tenant, "--json").stdout.count('"versions": 1') == 2


@pytest.fixture
def volatile(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "volatile")
    server.start("--appendonly", "no")
    try:
        yield server
    finally:
        server.stop()


#: As if the server had been away when `confkeep worker` looked at it.
UNSEEN = (
    "import worker.cli, worker.cli.worker as command\n"
    "command._refuse = lambda settings, name: None\n"
    "worker.cli.main()"
)


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "confkeep", "worker"],
        ["-c", UNSEEN, "worker"],
        ["-m", "celery", "-A", "worker.app", "worker"],
    ],
    ids=["confkeep", "confkeep later", "celery"],
)
def test_a_worker_refuses_a_server_that_loses_what_it_acknowledged(
    volatile: EmbeddedServer, tmp_path: Path, program: list[str]
) -> None:
    variables = {
        "CONFKEEP_REDIS_URL": volatile.url,
        "CONFKEEP_GIT_STORE_PATH": str(tmp_path / "store"),
    }

    done = subprocess.run(
        [sys.executable, *program, "--concurrency", "1", "--pool", "threads"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 14, done.stderr
    assert "appendonly is no: a restart loses every accepted backup" in done.stderr
    assert "Set appendonly yes" in done.stderr
    assert "Traceback" not in done.stderr
    if program[1] == "confkeep":
        assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    with redis.Redis(unix_socket_path=str(volatile.socket)) as client:
        # No worker is listed, and nothing was swept.
        assert not client.keys("confkeep:*")
