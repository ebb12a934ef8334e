"""Beside a portal: its worker stays its own, and its tasks, its event loop and its forks may wait."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as NotYetCommitted

from confkeep.broker import keys
from tasks import BrokerUnavailable, enqueue_backup
from tests.judge import git
from tests.servers import Deployment, wait_for
from worker.process.local import Child

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def portal(deployed: Deployment, tmp_path: Path) -> Iterator[Celery]:
    """The portal's app; its worker runs, and logs into `portal.log`."""
    url = f"redis+socket://{deployed.server.socket}?virtual_host=7"
    command = [sys.executable, "-m", "celery", "-A", "tests.integration.portal_app", "worker"]
    command += ["--logfile", str(tmp_path / "portal.log"), "-l", "ERROR", "--concurrency", "1"]
    command += ["--hostname", "portal@test", "--pool", "prefork"]
    variables = {**os.environ, **deployed.environment, "PORTAL_URL": url}
    child = Child(command, log=tmp_path / "portal.out", env=variables)
    with Celery("asks", broker=url, backend=url, set_as_current=False) as app:
        try:
            yield app
        finally:
            child.stop()


def ask(portal: Celery, name: str, *arguments: object) -> Any:
    sent = portal.send_task(f"tests.integration.portal_app.{name}", arguments)
    return sent.get(timeout=40)


def test_a_portals_worker_keeps_its_logging_its_context_and_its_kombu(
    deployed: Deployment, portal: Celery, tmp_path: Path
) -> None:
    deployed.start_worker()
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    receipt = ask(portal, "back_up", tenant, device, 30)  # waits within a task
    head = git(deployed.store / f"{tenant}.git", "rev-parse", "main").decode().strip()
    assert receipt["sha"] == head
    seen = ask(portal, "look")
    assert seen["context"] == {"request": "of the portal"}
    assert seen["channel"] == "kombu.transport.redis"
    ours = ("worker", "tasks")
    assert [name for name in seen["receivers"] if name.split(".")[0] in ours] == []
    log = (tmp_path / "portal.log").read_text()
    assert "the portal speaks" in log
    assert "INFO" not in log


def test_a_child_that_was_forked_after_a_wait_waits_on_its_own_connection(
    deployed: Deployment,
) -> None:
    deployed.start_worker()
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    enqueue_backup(tenant, device, "/ip 0", None, "m").get(30)
    waiting = enqueue_backup(tenant, device, "/ip 1", None, "m")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        # Whatever happens, this copy of the tests ends here.
        try:
            shas = [waiting.get(30)["sha"]]
            shas += [
                enqueue_backup(tenant, device, f"/ip c{n}", None, "m").get(30)["sha"]
                for n in range(20)
            ]
            os.write(writer, json.dumps(shas).encode())
        finally:
            os._exit(0)
    os.close(writer)
    mine = [
        enqueue_backup(tenant, device, f"/ip p{n}", None, "m").get(30)["sha"] for n in range(20)
    ]
    with os.fdopen(reader, "rb") as pipe:
        theirs = json.loads(pipe.read() or b"[]")
    assert os.waitpid(child, 0) == (child, 0)
    assert len(theirs) == 21
    log = git(deployed.store / f"{tenant}.git", "log", "--format=%H", "main").decode().split()
    assert {*mine, *theirs} <= {*log}
    assert len(log) == 42


def trigger(deployed: Deployment, device: str, wait_s: float) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "wait_for_commit.py"), device, str(wait_s)],
        cwd=deployed.path,
        env={**os.environ, **deployed.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_trigger_answers_with_the_commit_or_says_that_it_is_accepted(
    deployed: Deployment,
) -> None:
    from docs.examples.wait_for_commit import TENANT

    device = str(uuid.uuid4())
    assert trigger(deployed, device, 0.1) == "accepted"  # nobody works yet
    deployed.start_worker()
    sha = trigger(deployed, device, 30)
    log = git(deployed.store / f"{TENANT}.git", "log", "--format=%H", "main").decode().split()
    assert (log[0], len(log)) == (sha, 2)


def test_the_readmes_waits_keep_nobody_else_from_asyncios_own_threads(
    deployed: Deployment,
) -> None:
    """A hundred wait for a commit that does not come; an unrelated read is answered at once."""
    from tests.integration.test_end_to_end import readmes_example

    poll, tenant = readmes_example()["poll"], str(uuid.uuid4())

    class Router:
        def __init__(self) -> None:
            self.tenant, self.id, self.poll_id = tenant, str(uuid.uuid4()), str(uuid.uuid4())
            self.name = self.id

        async def capture(self) -> tuple[str, None]:
            return "/ip", None

    async def read_beside(routers: list[Router]) -> float:
        receipts: dict[str, Any] = {}
        polls = [asyncio.create_task(poll(router, receipts)) for router in routers]
        with deployed.client() as client:
            await asyncio.get_running_loop().run_in_executor(
                ThreadPoolExecutor(1),
                lambda: wait_for(
                    lambda: int(client.xlen(keys.inbox(tenant))) >= 40, "most to wait"
                ),
            )
        began = time.monotonic()
        await asyncio.to_thread(lambda: None)
        took = time.monotonic() - began
        deployed.start_worker()
        await asyncio.gather(*polls)
        assert len(receipts) == len(routers)
        return took

    assert asyncio.run(read_beside([Router() for _ in range(60)])) < 5


def test_a_wait_that_an_outage_ends_says_so(deployed: Deployment) -> None:
    waiting = enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), "/ip", None, "m")
    with pytest.raises(NotYetCommitted):
        waiting.get(0.1)
    deployed.server.kill()
    with pytest.raises(BrokerUnavailable) as caught:
        waiting.get(30)
    assert caught.value.hint
    deployed.server.start()
    deployed.start_worker()
    assert waiting.get(30)["sha"]
