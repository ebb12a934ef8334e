"""Recovery times with the default settings: from a kill, or a broker's return, to the last commit."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from confkeep.broker import keys
from tests.judge import assert_sound, backup_ids
from tests.servers import Deployment, wait_for
from worker.process.local import Child, EmbeddedServer

#: The promise.
MOST_S = 15.0
_BACKUPS = 600
#: So many that the fault comes before the workers are done with them.
_MANY = 4_000


@dataclass(frozen=True, slots=True)
class Recovery:
    """A kind of fault and what its rounds took."""

    fault: str
    seconds: list[float]

    def __str__(self) -> str:
        return (
            f"{self.fault}: median {statistics.median(self.seconds):.1f} s, "
            f"max {max(self.seconds):.1f} s, {len(self.seconds)} rounds"
        )


class Pair(Deployment):
    """A broker and two workers of the same shards, with the default settings."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, EmbeddedServer(path / "server"))

    @property
    def environment(self) -> dict[str, str]:
        others = {name: v for name, v in os.environ.items() if not name.startswith("CONFKEEP_")}
        return others | super().environment

    @contextmanager
    def running(
        self, pool: str, *options: str, first: Callable[[], object] = lambda: None
    ) -> Iterator[redis.Redis]:
        """Both workers up, after `first` was done; all is ended afterwards."""
        self.server.start()
        client = self.client()
        try:
            first()
            for number in range(2):
                command = [sys.executable, "-m", "tests.chaos.worker", f"w{number}", pool, "1"]
                self.workers.append(Child([*command, *options], log=self.log, env=self.environment))
            wait_for(lambda: client.hlen(keys.WORKERS) == 2, "both workers to start")
            yield client
        finally:
            client.close()
            for worker in self.workers:
                worker.ask_to_end()
            for worker in self.workers:
                worker.stop()
            self.server.stop()

    def enqueue(self, tenant: str, backups: int = _BACKUPS) -> list[str]:
        """Enqueue in a process of its own, which has the same settings."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.producer", "1", str(backups), tenant],
            env=self.environment,
            capture_output=True,
            check=True,
        )
        ids: list[str] = json.loads(done.stdout)[tenant]
        return ids

    def wait_until_committed(self, tenant: str, ids: list[str], start: float) -> float:
        """Seconds from `start` until every id has its receipt, all in order in git."""
        with self.client() as client:
            names = [keys.result(i) for i in ids]

            def done() -> bool:
                found = client.mget(names)
                return all(text and text.startswith(b'{"status":"SUCCESS"') for text in found)

            wait_for(done, "everything accepted to be committed", 60)
            seconds = time.monotonic() - start
        path = self.store / f"{tenant}.git"
        assert backup_ids(path) == ids
        assert_sound(path)
        return seconds


def killed_in_a_batch(path: Path, pool: str, victim: str, where: str) -> float:
    """Kill a worker's main process, or the pool's child, that stands still in a commit."""
    pair, tenant, marker = Pair(path), str(uuid.uuid4()), path / "held"
    path.mkdir()
    with pair.running(pool, f"hold-{where}={marker}"):
        ids = pair.enqueue(tenant)
        wait_for(lambda: marker.exists() and marker.read_text(), "a worker to be in a batch")
        child, parent = (int(text) for text in marker.read_text().split())
        # Processes of ours: the pool's child and its parent, or a threads pool's only process.
        main = next(w.pid for w in pair.workers if w.pid in (child, parent))
        start = time.monotonic()
        os.kill(main if victim == "main" else child, signal.SIGKILL)
        return pair.wait_until_committed(tenant, ids, start)


def broker_restarted_under_busy_workers(path: Path, pool: str) -> float:
    """Kill the broker in the middle of a long inbox; counted from its return."""
    pair, tenant = Pair(path), str(uuid.uuid4())
    path.mkdir()
    ids: list[str] = []
    with pair.running(pool, first=lambda: ids.extend(pair.enqueue(tenant, _MANY))) as client:
        wait_for(lambda: client.xlen(keys.inbox(tenant)) < _MANY, "the first batch")
        pair.server.kill()
        start = time.monotonic()
        pair.server.start()
        assert client.xlen(keys.inbox(tenant)), "the workers were done before the fault"
        return pair.wait_until_committed(tenant, ids, start)


def broker_restarted_under_idle_workers(path: Path, pool: str) -> float:
    """Kill the broker while nothing waits, and enqueue after its return; counted from there."""
    pair, tenant = Pair(path), str(uuid.uuid4())
    path.mkdir()
    with pair.running(pool):
        pair.server.kill()
        time.sleep(1)
        start = time.monotonic()
        pair.server.start()
        return pair.wait_until_committed(tenant, pair.enqueue(tenant, 50), start)


def measure(folder: Path, rounds: int) -> Iterator[Recovery]:
    """Each fault, `rounds` times."""
    kinds: list[tuple[str, Callable[[Path], float]]] = [
        (
            "main process killed before the commit (prefork)",
            lambda path: killed_in_a_batch(path, "prefork", "main", "before"),
        ),
        (
            "main process killed between commit and receipts (prefork)",
            lambda path: killed_in_a_batch(path, "prefork", "main", "after"),
        ),
        (
            "pool child killed before the commit",
            lambda path: killed_in_a_batch(path, "prefork", "child", "before"),
        ),
        (
            "main process killed before the commit (threads)",
            lambda path: killed_in_a_batch(path, "threads", "main", "before"),
        ),
        (
            "broker restarted under busy workers (prefork)",
            lambda path: broker_restarted_under_busy_workers(path, "prefork"),
        ),
        (
            "broker restarted under busy workers (threads)",
            lambda path: broker_restarted_under_busy_workers(path, "threads"),
        ),
        (
            "broker restarted under idle workers, then an enqueue",
            lambda path: broker_restarted_under_idle_workers(path, "prefork"),
        ),
    ]
    folder.mkdir()
    for kind, (fault, run) in enumerate(kinds):
        yield Recovery(fault, [run(folder / f"{kind}-{number}") for number in range(rounds)])
