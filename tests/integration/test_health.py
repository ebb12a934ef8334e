"""`confkeep health` beside a real worker: what it says while the server, the store and the worker fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from confkeep.errors import NotAlive, NotReady
from tests.servers import Deployment, wait_for
from worker.app import app


def health(deployed: Deployment, *options: str) -> tuple[int, dict[str, Any]]:
    """Its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "confkeep", "health", "--json", *options],
        env={**os.environ, **deployed.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_it_tells_a_worker_that_waits_from_one_that_hangs(deployed: Deployment) -> None:
    deployed.variables["CONFKEEP_SWEEP_INTERVAL_S"] = "0.2"
    # The store's folder cannot be made: a file is in its place.
    deployed.store.write_text("not a folder")
    worker = deployed.start_worker("w", pool="threads", app="tests.integration.hanging_app")
    wait_for(lambda: app.control.ping(timeout=1), "the worker to take commands")
    status, report = health(deployed)
    assert status == NotReady.exit_code
    [found] = report["workers"]
    assert (report["live"], found["pid"]) == (True, worker.pid)
    assert any("store takes no write" in why for why in found["not_ready"])

    # The loop hangs, and only the loop: sweep and store go on.
    app.control.broadcast("hang", arguments={"seconds": 4})
    deployed.store.unlink()
    wait_for(lambda: not turns_within(deployed, 2.5), "the hanging loop to be missed")
    status, report = health(deployed, "--max-silence", "2.5")
    assert status == NotAlive.exit_code
    assert report["workers"][0]["sweep_age_s"] < report["workers"][0]["loop_age_s"]
    wait_for(lambda: health(deployed)[0] == 0, "the worker to be live and ready")

    os.kill(worker.pid, signal.SIGSTOP)
    wait_for(lambda: not turns_within(deployed, 1.5), "the stopped worker to be missed")
    os.kill(worker.pid, signal.SIGCONT)

    deployed.server.kill()

    def waits() -> bool:
        """Its loop turns, long after the broker went away."""
        [found] = health(deployed)[1]["workers"]
        return bool(found["sweep_age_s"] > 4 > 2.5 > found["loop_age_s"])

    wait_for(waits, "the outage to last")
    assert health(deployed, "--ready")[0] == NotReady.exit_code
    deployed.server.start()
    wait_for(lambda: health(deployed)[0] == 0, "the worker to be ready again")

    os.kill(worker.pid, signal.SIGKILL)
    worker.stop()
    nobody = {"live": False, "ready": False, "workers": []}
    assert health(deployed) == (NotAlive.exit_code, nobody)


def turns_within(deployed: Deployment, seconds: float) -> bool:
    return health(deployed, "--live", "--max-silence", str(seconds))[0] == 0
