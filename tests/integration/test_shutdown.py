"""A warm shutdown: the batch in hand is settled, the tenant is let go, others do the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from confkeep.broker import keys
from tasks import enqueue_backups
from tests.judge import backup_ids
from tests.servers import Deployment, wait_for

#: What `docker stop` waits by default.
_GRACE_S = 10.0
#: At 10 a batch it takes a worker over a second.
_BACKUPS = 1_000


@pytest.mark.parametrize(
    ("pool", "remap", "number"),
    [
        ("prefork", "", signal.SIGTERM),
        ("prefork", "SIGQUIT", signal.SIGTERM),
        ("prefork", "", signal.SIGINT),
        ("threads", "", signal.SIGTERM),
        ("threads", "SIGQUIT", signal.SIGTERM),
    ],
)
def test_a_worker_asked_to_end_settles_its_batch_and_leaves_the_rest(
    deployed: Deployment, pool: str, remap: str, number: signal.Signals
) -> None:
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    variables = {"REMAP_SIGTERM": remap} if remap else {}
    results = enqueue_backups(
        {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": f"/ip {n}",
            "binary_backup": None,
            "message": str(n),
        }
        for n in range(_BACKUPS)
    )
    worker = deployed.start_worker(
        pool=pool, CONFKEEP_BATCH_MAX_BACKUPS="10", CONFKEEP_SLICE_S="30", variables=variables
    )
    with deployed.client() as client:
        wait_for(lambda: client.xlen(keys.inbox(tenant)) < _BACKUPS, "the first batch")
        asked = time.monotonic()
        # Ctrl-C reaches all processes of a terminal, SIGTERM the one that a supervisor knows.
        (os.killpg if number == signal.SIGINT else os.kill)(worker.pid, number)
        assert worker.process.wait(_GRACE_S) == 0
        print(f"{time.monotonic() - asked:.1f} s")
        left = client.xlen(keys.inbox(tenant))
        assert 0 < left < _BACKUPS
        assert not client.exists(keys.lock(tenant), keys.attempts(tenant), keys.backoff(tenant))
        committed = backup_ids(deployed.store / f"{tenant}.git")
        assert len(committed) == _BACKUPS - left, "no batch is half way"
        start = time.monotonic()
        deployed.start_worker("w2")
        wait_for(lambda: not client.exists(keys.WAITING), "the rest to be committed", 60)
        assert time.monotonic() - start < 20
    assert backup_ids(deployed.store / f"{tenant}.git") == [result.id for result in results]
    assert results[-1].get(timeout=5)["backup_id"] == results[-1].id


@pytest.mark.parametrize(
    ("pool", "number"), [("prefork", signal.SIGTERM), ("threads", signal.SIGINT)]
)
def test_a_worker_whose_server_answers_nothing_ends_as_soon(
    deployed: Deployment, pool: str, number: signal.Signals
) -> None:
    # Twice what it may take to end: no single call may be waited for.
    worker = deployed.start_worker(pool=pool, CONFKEEP_REDIS_TIMEOUT_S="20")
    # The first sweep waits for Celery's own connection too, which is given as long.
    wait_for(lambda: "action=sweep.tidied" in deployed.log.read_text(), "the first sweep to end")
    processes = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
    server = psutil.Process(deployed.server.pid)
    server.suspend()
    try:
        worker.process.send_signal(number)
        assert worker.process.wait(_GRACE_S) == 0
        # A process of the pool may wait for an answer to its task.
        _gone, alive = psutil.wait_procs(processes, 60)
        assert alive == []
    finally:
        server.resume()


def test_a_worker_killed_while_it_starts_takes_its_pool_along(deployed: Deployment) -> None:
    """Without its main process a pool's processes would hold each other's pipes, and wait for ever."""
    command = [
        sys.executable,
        "-m",
        "confkeep",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    ]
    for number in range(6):
        worker = psutil.Popen([*command, "--name", f"k{number}"], stderr=subprocess.DEVNULL)
        wait_for(worker.children, "the first process of its pool")
        pool = worker.children()
        worker.kill()
        worker.wait()
        _gone, left = psutil.wait_procs(pool, timeout=10)
        for process in left:
            process.kill()
        assert left == []
