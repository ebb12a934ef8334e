"""Parts of a deployment that run without an engine: the Procfile, compose's broker, mixed workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from confkeep.broker import keys
from confkeep.settings import load_settings
from tasks import enqueue_backup, enqueue_backups
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import backup_ids
from tests.servers import Deployment, deployment, free_port, is_served, wait_for
from worker.process import broker_check
from worker.process.local import find_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(tmp_path) as running:
        become_producer(running, monkeypatch)
        yield running
    forget_environment()


def processes_of(running: Deployment) -> list[psutil.Process]:
    """Every process but this one whose environment names the deployment's store."""
    found = []
    for process in psutil.process_iter():
        try:
            store = process.environ().get("CONFKEEP_GIT_STORE_PATH")
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
        if store == str(running.store) and process.pid != os.getpid():
            found.append(process)
    return found


@contextmanager
def honcho(running: Deployment, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`honcho start`, in a folder of its own, so that no `.env` of a developer takes part."""
    folder = running.path / "app"
    folder.mkdir()
    environment = {
        **os.environ,
        **running.environment,
        **variables,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "-d", str(folder)]
    with (running.path / "honcho.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "start", "-c", "worker=3"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        for left in processes_of(running):
            left.kill()
        process.wait()


def test_the_procfile_runs_workers_the_exporter_and_http(deployed: Deployment) -> None:
    port, http_port = free_port(), free_port()
    log = deployed.path / "honcho.log"
    # honcho counts from PORT, 5000 by default: 100 for each line of the file. Nobody listens there.
    counted = {"PORT": str(free_port())}
    with (
        honcho(deployed, EXPORTER_PORT=str(port), HTTP_PORT=str(http_port), **counted) as process,
        deployed.client() as client,
    ):
        wait_for(
            lambda: process.poll() is not None or client.hlen(keys.WORKERS) == 3, "three workers"
        )
        assert process.poll() is None, log.read_text()

        def metrics() -> str:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())

        wait_for(lambda: is_served(port), "the exporter")
        wait_for(lambda: is_served(http_port), "HTTP")
        with urlopen(f"http://127.0.0.1:{http_port}/v1/health", timeout=5) as answer:
            assert answer.status == 200
        tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
        result = enqueue_backup(tenant, device, "/ip address\n", None, "by Procfile")
        receipt = result.get(timeout=30)
        assert backup_ids(deployed.store / f"{tenant}.git") == [result.id]
        assert receipt["backup_id"] == result.id
        assert "confkeep_" in metrics()

        assert len(processes_of(deployed)) > 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert processes_of(deployed) == []
        assert not client.exists(keys.WORKERS), "they took their reports back"


def test_composes_broker_is_durable_asks_for_its_password_and_ends_on_sigterm(
    tmp_path: Path,
) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["broker"]
    [script] = service["command"]
    # A socket's path may have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="confkeep-") as folder:
        _try_broker(service, script, tmp_path, Path(folder, "s"))


def _try_broker(service: Any, script: str, data: Path, path: Path) -> None:
    # As the engine does: one dollar for two, and another place for the data.
    script = script.replace("$$", "$").replace(
        "--dir /data", f"--dir {data} --port 0 --unixsocket {path}"
    )
    assert "--unixsocket" in script
    environment = {
        "PATH": f"{Path(find_server()).parent}{os.pathsep}{os.environ['PATH']}",
        "VALKEY_PASSWORD": "planted",
    }
    process = subprocess.Popen(
        [*service["entrypoint"], script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: process.poll() is not None or path.exists(), "the server")
        no_retry = Retry(NoBackoff(), 0)
        assert "planted" not in " ".join(psutil.Process(process.pid).cmdline())
        with (
            redis.Redis(unix_socket_path=str(path), retry=no_retry) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        with redis.Redis(unix_socket_path=str(path), password="planted") as client:
            assert broker_check.check(client, load_settings()) == []
            [check] = service["healthcheck"]["test"][1:]
            # The healthcheck looks at the usual port; here the server has a socket.
            check = check.replace("$$", "$").replace("valkey-cli", f"valkey-cli -s {path}")
            healthy = ["sh", "-c", check]
            assert subprocess.run(healthy, env=environment, check=False).returncode == 0
            wrong = {**environment, "VALKEY_PASSWORD": "x"}
            done = subprocess.run(healthy, env=wrong, check=False, stderr=subprocess.DEVNULL)
            assert done.returncode != 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "the shell would have taken the signal for itself"
    finally:
        process.kill()
        process.wait()


def test_a_worker_without_a_number_serves_every_shard_beside_one_of_several(
    deployed: Deployment,
) -> None:
    """As in an upgrade from numbered workers: worker 0 of 2 still runs, worker 1 has ended."""
    tenants = [str(uuid.uuid4()) for _ in range(4)]
    shards = {keys.shard_of(tenant, 16) % 2 for tenant in tenants}
    while shards != {0, 1}:
        tenants.append(str(uuid.uuid4()))
        shards.add(keys.shard_of(tenants[-1], 16) % 2)
    device = str(uuid.uuid4())
    small = {"CONFKEEP_BATCH_MAX_BACKUPS": "5", "CONFKEEP_SLICE_S": "0.05"}
    deployed.start_worker(
        "w0", 2, "threads", {**small, "CONFKEEP_WORKER_INDEX": "0", "CONFKEEP_WORKER_COUNT": "2"}
    )
    deployed.start_worker("new", 2, "threads", small)
    results = {
        tenant: enqueue_backups(
            {
                "tenant_id": tenant,
                "device_id": device,
                "export_text": f"/ip {number}",
                "binary_backup": None,
                "message": str(number),
            }
            for number in range(60)
        )
        for tenant in tenants
    }
    with deployed.client() as client:
        wait_for(lambda: not client.exists(keys.WAITING), "all to be committed", 60)
    for tenant, sent in results.items():
        assert backup_ids(deployed.store / f"{tenant}.git") == [result.id for result in sent]
    # One that a scaler ends is not shown as silent, which would raise an alarm.
    for worker in deployed.workers:
        worker.ask_to_end()
    with deployed.client() as client:
        wait_for(lambda: not client.exists(keys.WORKERS), "the workers to take their reports back")
