"""Metrics of real workers: exact, also when a child is killed, a port is taken or nothing is there."""

from __future__ import annotations

import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from celery import Celery
from celery.result import AsyncResult
from click.testing import CliRunner

from confkeep.broker import keys
from tasks import PoisonedBackup, enqueue_backup
from tests.integration.conftest import become_producer
from tests.scraping import Series, assert_declared, counted, scrape, series, value
from tests.servers import Deployment, deployment, free_port, node, wait_for
from worker.cli import cli
from worker.hooks.progress import Progress
from worker.observe import metrics
from worker.process.local import Child
from worker.queue import backoff, totals

EXPORT = "# 2026-01-02 03:04:05 by RouterOS 7.16\n/ip address\nadd address=10.0.0.1\n"


@contextmanager
def taken_port() -> Iterator[tuple[int, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1], listening


def exported() -> str:
    done = CliRunner().invoke(cli, ["exporter", "--once", "--stale-after", "1h"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_scrape_says_exactly_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        taken_port() as (port, listening),
        deployment(tmp_path, CONFKEEP_METRICS_PORT=str(port)) as deployed,
    ):
        become_producer(deployed, monkeypatch)
        tenants = [str(uuid.uuid4()) for _ in range(4)]
        device = str(uuid.uuid4())

        def enqueue(tenant: str, export: str = EXPORT, device_id: str = device) -> AsyncResult:
            return enqueue_backup(tenant, device_id, export, None, "m")

        dead = enqueue(tenants[1], "/dead")
        with deployed.client() as client:
            client.delete(keys.staged(tenants[1], dead.id))
        # The port is taken: the worker works all the same, and serves when it is free.
        worker = deployed.start_worker(concurrency=2)
        good = [enqueue(tenants[0]), enqueue(tenants[0])]
        good += [enqueue(tenants[1], "Bus error\n"), enqueue(tenants[2])]
        good += [enqueue(tenants[0], device_id=str(uuid.uuid4()))]
        for result in good:
            result.get(timeout=30)
        url = f"redis+socket://{deployed.server.socket}?virtual_host=0"
        with Celery("portal", broker=url, backend=url, set_as_current=False) as portal:
            sent = {"tenant_id": tenants[2], "device_id": device, "message": "m"}
            by_name = portal.send_task(
                "backups.receive",
                kwargs={**sent, "export_text": f"{EXPORT}add address=10.0.0.2\n"},
                queue="backups.receive",
            )
            by_name.get(timeout=30)
        with pytest.raises(PoisonedBackup):
            dead.get(timeout=30)
        assert "metrics.port_taken" in deployed.log.read_text()
        listening.close()
        wait_for(lambda: scrape(port) is not None, "the port to be served")
        wait_for(lambda: counted(port, metrics.WORKER_COMMITTED) == 6, "the last one to be counted")

        def assert_exact() -> Series:
            text = scrape(port)
            assert text is not None
            assert_declared(text, metrics.OF_WORKER)
            found = series(text)
            for counter, wanted in (
                (metrics.WORKER_ENQUEUED, 1),
                (metrics.WORKER_COMMITTED, 6),
                (metrics.WORKER_UNCHANGED, 1),
                (metrics.WORKER_SUSPECT, 1),
                (metrics.WORKER_DEAD, 1),
            ):
                assert value(found, counter.name) == wanted, counter.name
            assert value(found, "confkeep_worker_commit_latency_seconds_count") == 6
            turns = value(found, "confkeep_worker_step_seconds_count", step="pack")
            assert 3 <= turns <= 6
            for step in metrics.STEPS:
                assert value(found, "confkeep_worker_step_seconds_count", step=step) >= turns
            assert value(found, "confkeep_worker_lock_wait_seconds_count") >= turns
            assert 0 <= value(found, metrics.WORKER_SWEEP_AGE.name) < 60
            return found

        assert value(assert_exact(), metrics.WORKER_RETRIED.name) == 0

        # A child that is killed takes nothing with it.
        children = psutil.Process(worker.process.pid).children()
        assert len(children) == 2
        children[0].send_signal(signal.SIGKILL)
        wait_for(
            lambda: (
                not children[0].is_running()
                and len(psutil.Process(worker.process.pid).children()) == 2
            ),
            "another child",
        )
        assert_exact()

        # What waits after a fault, for the exporter to show; and then both agree.
        blocked = deployed.store / f"{tenants[3]}.git"
        blocked.write_text("in the way")
        late = enqueue(tenants[3])
        with deployed.client() as client:
            wait_for(lambda: backoff.get_many(client, tenants[3:]), "a try that fails")
            client.hset(keys.HOOK_STATES, "portal", Progress("").to_json())
            before = totals.read_totals(client).retried
            text = exported()
            own = counted(port, metrics.WORKER_RETRIED)
            after = totals.read_totals(client).retried
            assert 1 <= before <= value(series(text), metrics.RETRIED.name) <= after
            assert before - 1 <= own <= after, "it counts when Redis has answered"
        assert_declared(text, (*metrics.OF_REDIS, *metrics.OF_STORE))
        found = series(text)
        for counter, wanted in (
            (metrics.UP, 1),
            (metrics.ENQUEUED, 8),
            (metrics.COMMITTED, 6),
            (metrics.UNCHANGED, 1),
            (metrics.SUSPECT, 1),
            (metrics.DEAD, 1),
            (metrics.DEAD_LETTERS, 1),
            (metrics.WAITING, 1),
            (metrics.FAILING, 1),
            (metrics.STALLED, 0),
            (metrics.UNSERVED, 0),
            (metrics.TENANTS, 4),
            (metrics.DEVICES, 4),
            (metrics.STALE, 0),
            (metrics.UNREADABLE, 1),
        ):
            assert value(found, counter.name) == wanted, counter.name
        assert value(found, "confkeep_commit_latency_seconds_count") == 6
        shard = f"{keys.shard_of(tenants[3], 16):02d}"
        assert value(found, metrics.INBOX_BACKUPS.name, shard=shard) == 1
        assert value(found, metrics.TENANT_BYTES.name, tenant=tenants[3]) == len(EXPORT)
        assert value(found, metrics.SWEEP_AGE.name, worker=node()) < 60
        blocked.unlink()
        late.get(timeout=60)

        folder = _folder_of(worker.process.pid)
        assert folder is not None
        worker.stop()
        assert not folder.exists(), "nothing stays behind"


def _folder_of(pid: int) -> Path | None:
    variable = psutil.Process(pid).children()[0].environ().get("TMPDIR", "/tmp")
    for file in Path(variable).glob(f"confkeep-metrics-*/counter_{pid}.db"):
        return file.parent
    return None


def test_threads_count_too_and_the_exporter_serves_while_the_server_is_away(
    deployed: Deployment,
) -> None:
    port, exporter_port = free_port(), free_port()
    worker = deployed.start_worker(pool="threads", CONFKEEP_METRICS_PORT=str(port))
    enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), EXPORT, None, "m").get(timeout=30)
    # The receipt comes before the counting.
    wait_for(lambda: counted(port, metrics.WORKER_COMMITTED) == 1, "the commit to be counted")
    exporter = Child(
        [sys.executable, "-m", "confkeep", "exporter", "--port", str(exporter_port)],
        log=deployed.log,
        env={**os.environ, **deployed.environment},
    )
    try:
        wait_for(lambda: metrics.DEVICES.name in (scrape(exporter_port) or ""), "the exporter")
        assert counted(exporter_port, metrics.COMMITTED) == 1
        assert counted(exporter_port, metrics.DEVICES) == 1
        worker.stop()
        deployed.server.stop()
        text = scrape(exporter_port)
        assert text is not None
        assert value(series(text), metrics.UP.name) == 0
        assert metrics.COMMITTED.name not in text
        assert value(series(text), metrics.DEVICES.name) == 1
    finally:
        exporter.stop()
    assert exporter.process.returncode == 0, deployed.log.read_text()
