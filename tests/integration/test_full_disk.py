"""A store that refuses is told: when a tenant begins to wait, when it stalls, and when it goes on."""

from __future__ import annotations

import errno
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from confkeep.broker import keys
from tasks import enqueue_backup
from tests.integration.failing_store_app import VARIABLE
from tests.servers import Deployment, wait_for
from worker.cli import cli
from worker.queue.backoff import STALLED_TRIES


def confkeep(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def lines_of(running: Deployment, action: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in running.log.read_text().splitlines() if line[:1] == "{")
    return [line for line in lines if line.get("action") == action]


@pytest.mark.parametrize(
    ("number", "says", "step"),
    [
        (errno.ENOSPC, "no space left on the device", "Free space on the disk of"),
        (errno.EROFS, "the file system is read-only", "writable again"),
    ],
)
def test_a_store_that_refuses_is_told_with_the_next_step(
    deployed: Deployment, tmp_path: Path, number: int, says: str, step: str
) -> None:
    fault = tmp_path / "fault"
    fault.write_text(str(number))
    variables = {
        VARIABLE: str(fault),
        "CONFKEEP_LOG_FORMAT": "json",
        "CONFKEEP_SWEEP_INTERVAL_S": "0.2",
    }
    deployed.start_worker(
        app="tests.integration.failing_store_app", pool="threads", variables=variables
    )
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    first, second = (enqueue_backup(tenant, device, f"/ip {n}", None, "m") for n in range(2))
    wait_for(lambda: lines_of(deployed, "tenant.waits"), "the warning")
    [warning] = lines_of(deployed, "tenant.waits")
    assert (warning["level"], warning["tenant_id"]) == ("warning", tenant)
    assert says in warning["reason"]
    kick = f"at once with `confkeep kick {tenant}`"
    for word in (step, str(deployed.store), kick):
        assert word in warning["hint"]

    wait_for(lambda: first.state == "RETRY", "the result to say so")
    for said in (
        confkeep("receipt", first.id).output,
        confkeep("status").stdout,
        confkeep("status", "--watch", "--count", "1", "--json").stdout,
        json.loads(confkeep("receipt", first.id, "--json").stdout)["next_step"],
        json.loads(confkeep("status", "--json").stdout)["inboxes"][0]["next_step"],
    ):
        assert step in said.replace("\n", " ")
    export = tmp_path / "export.rsc"
    export.write_text("/ip 3")
    waited = confkeep(
        *("enqueue", tenant, device, "--export", str(export), "-m", "m", "--wait"),
        *("--timeout", "0.5"),
    )
    assert waited.exit_code == 16
    for word in (says, step, kick):
        assert word in waited.output

    with deployed.client() as client:

        def fail_again(tries: int) -> None:
            """As if it had been tried so often."""
            client.hset(keys.backoff(tenant), mapping={"tries": tries, "next_ms": 0})
            wait_for(
                lambda: client.hget(keys.backoff(tenant), "tries") != str(tries).encode(), "a try"
            )

        fail_again(STALLED_TRIES - 2)
        assert not lines_of(deployed, "tenant.stalled")
        fail_again(STALLED_TRIES - 1)
        wait_for(lambda: lines_of(deployed, "tenant.stalled"), "the error")
        fail_again(STALLED_TRIES)
        fault.unlink()
        assert confkeep("kick", tenant).exit_code == 0
        assert second.get(timeout=20)
        wait_for(lambda: lines_of(deployed, "tenant.goes_on"), "the end")
    [stalled], [over] = (
        lines_of(deployed, "tenant.stalled"),
        lines_of(deployed, "tenant.goes_on"),
    )
    assert (stalled["level"], stalled["tries"]) == ("error", STALLED_TRIES)
    assert says in stalled["reason"]
    assert step in stalled["hint"]
    assert over["backups"] == 3
    assert over["seconds"] > 0
    assert len(lines_of(deployed, "tenant.waits")) == 1, "none for each try"
    assert "retry" not in deployed.log.read_text().lower(), "nor any of Celery's"
