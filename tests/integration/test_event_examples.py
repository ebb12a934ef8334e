"""The examples of docs/hooks.md do what it says, each run as its reader would."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from confkeep import enqueue_backup
from confkeep.naming import name_device
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import git
from tests.receiving import receiving
from tests.servers import Deployment, deployment, free_port, is_served, wait_for
from worker.cli import cli
from worker.process.local import Child

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "events"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(
        tmp_path_factory.mktemp("examples"), CONFKEEP_HOOKS_NETWORKS="127.0.0.1"
    ) as running:
        running.start_worker(pool="threads", concurrency=4)
        with pytest.MonkeyPatch.context() as patch:
            become_producer(running, patch)
            yield running
        forget_environment()


def run(running: Deployment, *command: str, **variables: str) -> str:
    done = subprocess.run(
        command,
        cwd=running.path,
        env={**os.environ, **running.environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(tenant: str, device: str, export: str, name: str | None = None) -> str:
    result = enqueue_backup(tenant, device, f"/ip address\n{export}\n", None, "m", device_name=name)
    return result.receipt(30).sha


def test_the_portals_table_is_in_step_whatever_was_away(running: Deployment) -> None:
    tenant, first, second = (str(uuid.uuid4()) for _ in range(3))

    def rows() -> dict[str, tuple[str, str]]:
        run(running, sys.executable, str(EXAMPLES / "portal_table.py"))
        with sqlite3.connect(running.path / "portal.sqlite3") as database:
            found = database.execute(
                "select id, name, sha from devices where tenant = ?", (tenant,)
            )
            return {device: (name, sha) for device, name, sha in found}

    one = commit(tenant, first, "add a", "core1")
    assert rows() == {first: ("core1", one)}
    two = commit(tenant, second, "add b", "core2")
    # Unchanged: the newest change stays.
    commit(tenant, second, "add b")
    name_device(tenant, first, "core-one").receipt(30)
    assert rows() == {first: ("core-one", one), second: ("core2", two)}
    three = commit(tenant, first, "add c")
    with running.client() as client:
        # All that Redis knew of events is gone.
        client.delete("confkeep:events")
    assert rows() == {first: ("core-one", three), second: ("core2", two)}


@contextmanager
def portal(running: Deployment, secret: str) -> Iterator[str]:
    """The FastAPI portal on a port of its own; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port)]
    child = Child(
        ["env", "-C", str(running.path), *command, "fastapi_portal:app"],
        log=running.path / "portal.log",
        env={**os.environ, **running.environment, "HOOK_SECRET": secret},
    )

    def answers() -> bool:
        assert child.running(), (running.path / "portal.log").read_text()
        return is_served(port)

    try:
        wait_for(answers, "the portal to answer")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()


def post(url: str, body: bytes = b"") -> tuple[int, Any]:
    try:
        with urlopen(Request(url, body, method="POST"), timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except URLError as error:
        return getattr(error, "code", 0), None


def test_the_fastapi_portal_answers_with_the_commit_and_hears_of_it(running: Deployment) -> None:
    done = CliRunner().invoke(cli, ["hooks", "add", "http://127.0.0.1:1/", "--json"])
    assert done.exit_code == 0, done.output
    hook = json.loads(done.stdout)
    device = str(uuid.uuid4())
    with portal(running, hook["secret"]) as address:
        status, answer = post(f"{address}/devices/{device}/backup")
        assert status == 200
        repository = running.store / "aaaa1111-0000-4000-8000-000000000003.git"
        assert git(repository, "rev-parse", "main").decode().strip() == answer["sha"]
        assert post(f"{address}/hook", b"{}")[0] == 401
        assert CliRunner().invoke(cli, ["hooks", "remove", hook["name"]]).exit_code == 0
        path = running.path / "hooks.toml"
        path.write_text(
            f'[[hook]]\nname = "portal"\nurl = "{address}/hook"\nsecret = "{hook["secret"]}"\n'
        )
        sender = Child(
            [sys.executable, "-P", "-m", "confkeep", "hooks", "run"],
            log=running.path / "hooks.log",
            env={**os.environ, **running.environment, "CONFKEEP_HOOKS_FILE": str(path)},
        )
        try:
            with running.client() as client:
                wait_for(lambda: client.hexists("confkeep:hook-states", "portal"), "the sender")
            _, answer = post(f"{address}/devices/{device}/backup")

            def stored() -> list[tuple[str, str]]:
                with sqlite3.connect(running.path / "portal.sqlite3") as database:
                    try:
                        return database.execute("select device, sha from commits").fetchall()
                    except sqlite3.OperationalError:
                        return []

            wait_for(lambda: (device, answer["sha"]) in stored(), "the webhook")
        finally:
            sender.stop()


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_the_digest_reaches_a_chat(running: Deployment) -> None:
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    commit(tenant, device, "add a", "edge1")
    with receiving() as chat:
        variables = {"TENANT": tenant, "DIGEST_URL": f"json://127.0.0.1:{chat.port}/"}
        variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables["PYTHONPATH"] = str(EXAMPLES.parents[2])
        run(running, "sh", str(EXAMPLES / "slack_digest.sh"), **variables)
    [request] = chat.requests
    assert "edge1" in json.loads(request.body)["message"]


def test_the_page_shows_the_examples_as_they_are() -> None:
    page = (EXAMPLES.parents[1] / "hooks.md").read_text("utf-8")
    shown = set(re.findall(r"<!-- generated: file docs/examples/events/(\S+) -->", page))
    assert shown == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
