"""Celery's own tools, Flower and traces of a real worker: they see workers and tasks, and no payload."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from confkeep.broker import keys
from confkeep.errors import MessageRefused
from tests.integration.conftest import become_producer, forget_environment
from tests.planted import SECRET, forms_of
from tests.receiving import receiving
from tests.servers import Deployment, deployment, free_port, node, wait_for
from worker.app import TASK_MODULES, app
from worker.process.local import Child


class Flower:
    """Flower, as `celery -A worker.app flower` starts it."""

    def __init__(self, log: Path) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "celery", "-A", "worker.app", "flower"]
        command += ["--address=127.0.0.1", f"--port={self._port}", "--debug"]
        variables = {"FLOWER_UNAUTHENTICATED_API": "true"}
        self.child = Child(command, log=log, env={**os.environ, **variables})

    def get(self, path: str) -> dict[str, Any]:
        """What its HTTP API answers; nothing while it is not up yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=20) as got:
                found = json.load(got)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}
        assert isinstance(found, dict)
        return found


def test_flower_and_inspect_show_workers_and_tasks_without_payload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with deployment(tmp_path) as deployed:
        with deployed.client() as client:
            client.config_set("port", port)
            client.acl_setuser(
                "worker",
                enabled=True,
                passwords=[f"+{SECRET}"],
                categories=["+@all"],
                keys=["*"],
                channels=["*"],
            )
        deployed.variables["CONFKEEP_REDIS_URL"] = f"redis://worker:{SECRET}@127.0.0.1:{port}/0"
        # The level at which Celery says most; the end of the deployment searches the log.
        deployed.variables["CONFKEEP_LOG_LEVEL"] = "debug"
        become_producer(deployed, monkeypatch)
        deployed.start_worker("w", pool="threads")
        flower = Flower(tmp_path / "flower.log")
        try:
            inspect = app.control.inspect(timeout=2)
            wait_for(lambda: inspect.ping() == {node(): {"ok": "pong"}}, "the worker to answer")
            [names] = (inspect.registered() or {}).values()
            assert names == sorted(names)
            assert {"backups.commit_inbox", "backups.receive", "backups.verify"} <= set(names)
            assert all(name.startswith("backups.") for name in names)
            assert "backups.receive" in str(inspect.active_queues())
            # A worker must not tell its password to whoever can send it a command.
            assert not holds(json.dumps(inspect.conf()), SECRET)

            # A client without a `kwargsrepr`: its message's headers hold the export.
            tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
            backup = {
                "tenant_id": tenant,
                "device_id": device,
                "export_text": f"/ip address add comment={SECRET}",
                "binary_base64": base64.b64encode(b"\x88\xac" + SECRET.encode()).decode(),
                "message": f"message of {SECRET}",
            }
            wait_for(lambda: flower.get("/api/workers?refresh=1"), "Flower to see the worker")
            # Flower does so every five seconds.
            [answered] = app.control.enable_events(reply=True)
            assert "enabled" in str(answered)
            sent = app.send_task("backups.receive", kwargs=backup, queue=keys.RECEIVE_QUEUE)
            sha = sent.get(timeout=30)["sha"]
            read = app.send_task(
                "backups.read_file",
                args=(tenant, sha, device, "export.rsc"),
                queue=keys.queue_of(tenant, 16),
            )
            assert SECRET.encode() in base64.b64decode(read.get(timeout=30))
            misspelt = app.send_task("backups.recieve", kwargs=backup, queue=keys.RECEIVE_QUEUE)
            with pytest.raises(MessageRefused, match="task: is none of ours"):
                misspelt.get(timeout=30)
            told = "task: is none of ours"
            wait_for(lambda: told in deployed.log.read_text(), "the log to tell of it")

            def succeeded() -> set[str]:
                tasks = flower.get("/api/tasks").values()
                return {task["name"] for task in tasks if task["state"] == "SUCCESS"}

            wanted = {"backups.receive", "backups.commit_inbox", "backups.read_file"}
            wait_for(lambda: wanted <= succeeded(), "Flower to see the tasks")
            shown = flower.get("/api/tasks")
            assert shown[sent.id]["kwargs"] == repr({"tenant_id": tenant, "device_id": device})
            assert [
                task["args"] for task in shown.values() if task["name"] == "backups.commit_inbox"
            ] == [tenant]
            everything = json.dumps([shown, flower.get("/api/workers?refresh=1")])
            assert not holds(everything, SECRET)
        finally:
            flower.child.stop()
    forget_environment()


def test_traces_of_a_worker_arrive_without_payload(deployed: Deployment) -> None:
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    backup = {
        "tenant_id": tenant,
        "device_id": device,
        "export_text": f"/ip address add comment={SECRET}",
        "message": f"message of {SECRET}",
    }
    with receiving() as receiver:
        deployed.variables |= {
            "CONFKEEP_OTEL": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        # Its children are made by fork after the parent began to trace.
        worker = deployed.start_worker("w")
        sent = app.send_task("backups.receive", kwargs=backup, queue=keys.RECEIVE_QUEUE)
        sha = sent.get(timeout=30)["sha"]
        where = (tenant, sha, device, "export.rsc")
        read = app.send_task("backups.read_file", args=where, queue=keys.queue_of(tenant, 16))
        assert SECRET.encode() in base64.b64decode(read.get(timeout=30))
        worker.stop()
    spans = [
        span
        for request in receiver.requests
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    tasks = {f"run/backups.{name}" for name in ("receive", "commit_inbox", "read_file")}
    assert tasks <= {span.name for span in spans}
    sent_bytes = b"".join(request.body for request in receiver.requests)
    assert not [form for form in forms_of(SECRET) if form in sent_bytes]


def holds(text: str, secret: str) -> bool:
    return any(form in text.encode() for form in forms_of(secret))


def test_all_tasks_have_clear_names_and_no_result_that_monitors_would_show() -> None:
    for module in TASK_MODULES:
        app.loader.import_task_module(module)
    ours = {name: task for name, task in app.tasks.items() if name.startswith("backups.")}
    assert len(ours) == 16
    for name, task in ours.items():
        assert task.__doc__, name
    answering = ("read_file", "history", "diff", "devices", "directory", "answer", "commits_after")
    for name in (*answering, "tenants"):
        assert ours[f"backups.{name}"].resultrepr_maxsize == 0
    assert not app.conf.task_send_sent_event, "it would tell arguments"


def test_celerys_command_line_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", "report"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CONFKEEP_REDIS_URL": f"redis://:{SECRET}@localhost:1/0"},
    )
    assert done.returncode == 0, done.stderr
    assert "software -> celery:" in done.stdout
    assert not holds(done.stdout + done.stderr, SECRET)
