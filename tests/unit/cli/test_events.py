"""`confkeep events`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import redis

from confkeep.queue import events
from confkeep.settings import load_settings
from tests.servers import wait_for
from tests.unit.cli.conftest import TENANT, Store
from worker.process.local import EmbeddedServer


def test_a_follower_waits_for_a_server_from_its_start_and_through_an_outage(
    store: Store, tmp_path: Path
) -> None:
    store.path.mkdir()
    server = EmbeddedServer(tmp_path / "server")
    settings = load_settings(redis_url=server.url)
    out, err = tmp_path / "out", tmp_path / "err"

    def happens(what: str) -> None:
        with redis.Redis.from_url(server.url) as client:
            stalled = events.new(events.STALLED, TENANT, data={"reason": what}, about=(what,))
            events.emit(client, settings, stalled)

    def outages() -> int:
        return err.read_text().count(f"waiting for it at unix://{server.socket}")

    with out.open("wb") as stdout, err.open("wb") as stderr:
        follower = subprocess.Popen(
            [sys.executable, "-P", "-m", "confkeep", "events", "--follow"],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "CONFKEEP_REDIS_URL": server.url},
        )
    try:
        for told, what in enumerate(("a full disk", "a lock")):
            wait_for(lambda told=told: outages() == told + 1, "the outage to be told")  # type: ignore[misc]
            server.start()
            happens(what)
            wait_for(lambda what=what: what in out.read_text(), "the event")  # type: ignore[misc]
            server.kill()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
    finally:
        follower.kill()
        follower.wait()
        server.stop()
    assert [line.split("  ")[1].strip() for line in out.read_text().splitlines()] == [
        events.STALLED
    ] * 2
