"""With CONFKEEP_LOG_FORMAT=json, all that a worker and the exporter print is JSON, line by line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tasks import enqueue_backup
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment, deployment, free_port, wait_for


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(tmp_path, CONFKEEP_LOG_FORMAT="json", PYTHONWARNINGS="default") as running:
        become_producer(running, monkeypatch)
        yield running
    forget_environment()


@contextmanager
def started(
    running: Deployment, *arguments: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """`confkeep ARGUMENTS`, and what it has printed so far."""
    output = running.path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "confkeep", *arguments],
            cwd=running.path,
            env={**os.environ, **running.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process, output.read_text
    finally:
        process.kill()
        process.wait()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_worker(deployed: Deployment) -> None:
    with started(deployed, "worker", "-c", "1", REMAP_SIGTERM="SIGQUIT") as (process, output):
        result = enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), "/ip address\n", None, "m")
        wait_for(
            lambda: process.poll() is not None or "committed a batch" in output(), "the commit"
        )
        assert result.get(timeout=30)["backup_id"] == result.id
        # Celery answers with the stacks of all threads.
        process.send_signal(signal.SIGUSR1)
        wait_for(lambda: "MainThread" in output(), "the stacks")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    lines = lines_of(output())
    assert lines[0]["action"] == "command.note"
    assert re.match("worker worker-[0-9]+: 16 shards", lines[0]["event"])
    assert any("shutdown (MainProcess)" in line["event"] for line in lines)
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)


def test_the_exporter(deployed: Deployment) -> None:
    port = free_port()
    with started(deployed, "exporter", "--port", str(port)) as (process, output):
        wait_for(lambda: process.poll() is not None or output(), "its first line")
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"confkeep_up 1.0" in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    [line] = lines_of(output())
    assert line["event"] == f"metrics at http://127.0.0.1:{port}/metrics"


def test_a_setting_that_is_wrong(deployed: Deployment) -> None:
    with started(deployed, "worker", CONFKEEP_SHARDS="none") as (process, output):
        assert process.wait(30) == 2
    [line] = lines_of(output())
    assert (line["action"], line["level"]) == ("command.failed", "error")
    assert line["event"].startswith("CONFKEEP_SHARDS: ")
    assert line["hint"]
