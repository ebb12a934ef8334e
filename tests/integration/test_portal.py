"""Beside a portal: its worker stays its own, and its tasks, its event loop and its forks may wait."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TimeoutError as NotYetCommitted

from confkeep.broker import keys
from tasks import BrokerUnavailable, enqueue_backup
from tests.judge import git
from tests.servers import Deployment, wait_for

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


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
