"""How tests start servers and workers: real ones, each with its own socket and folders."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from confkeep.broker import keys
from tests.judge import assert_all_readable
from tests.planted import assert_nothing_repeated
from worker.process.local import Child, EmbeddedServer

#: What stays in Redis, beside the results, once all is committed.
LASTING_KEYS = frozenset(
    {
        *(keys.WORKERS, keys.STORES, keys.TIDY, keys.TOTALS, keys.RECENT, keys.EVENTS),
        # While workers run that serve all shards.
        keys.sweep("0-16-1"),
    }
)


def names_of(client: redis.Redis) -> set[str]:
    """All keys but empty inboxes, which stay for as long as their tenant."""
    prefix = keys.inbox("")
    names = {name.decode() for name in client.scan_iter()}
    return {name for name in names if not name.startswith(prefix) or client.xlen(name)}


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
    """Return when `condition` holds; fail, naming what was waited for, when it does not in time."""
    began = time.monotonic()
    deadline = began + timeout_s
    while not condition():
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        # A look that starts a process would else take a processor from what is waited for.
        time.sleep(min(max(0.01, now - began), 0.25))
        began = time.monotonic()


def free_port() -> int:
    """A port of the loopback that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_served(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def node(name: str = "w") -> str:
    """What a worker that tests start is called among workers."""
    return f"{name}@{socket.gethostname()}"


@dataclass
class Deployment:
    """A server, a store and any number of workers, in a folder of the test's own."""

    path: Path
    server: EmbeddedServer
    variables: dict[str, str] = field(default_factory=dict)
    workers: list[Child] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CONFKEEP_REDIS_URL": self.server.url,
            "CONFKEEP_GIT_STORE_PATH": str(self.store),
            "CONFKEEP_STAGING_PATH": str(self.path / "staging"),
            "CONFKEEP_RUN_PATH": str(self.path / "run"),
            "PYTHONWARNINGS": "ignore",
            **self.variables,
        }

    @property
    def log(self) -> Path:
        return self.path / "workers.log"

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.server.socket))

    def start_worker(
        self,
        name: str = "w",
        concurrency: int = 1,
        pool: str = "prefork",
        variables: Mapping[str, str] | None = None,
        app: str | None = None,
        **more: str,
    ) -> Child:
        """Start a worker as deployments do; returns when it consumes its queues.

        Args:
            app: a Celery app of the tests, to be started by Celery's command line.
        """
        command = [sys.executable, "-m", "confkeep", "worker", "--name", name]
        if app is not None:
            command = [sys.executable, "-m", "celery", "-A", app, "worker"]
            command += ["--hostname", node(name), "--without-mingle", "--without-gossip"]
        command += ["--concurrency", str(concurrency), "--pool", pool]
        worker = Child(
            command,
            log=self.log,
            env={**os.environ, **self.environment, **(variables or {}), **more},
        )
        self.workers.append(worker)
        with self.client() as client:
            wait_for(
                lambda: not worker.running() or client.hexists(keys.WORKERS, node(name)),
                f"worker {name} to start",
            )
        assert worker.running(), self.log.read_text()
        return worker

    def stop(self) -> None:
        """Kill the workers, and end the server in order.

        An idle prefork worker takes 2 seconds to end in order, which tests of that prove; here the
        judges read what a crash leaves.
        """
        for worker in self.workers:
            if worker.running():
                os.killpg(worker.pid, signal.SIGKILL)
        for worker in self.workers:
            worker.process.wait()
        self.server.stop()


@contextmanager
def deployment(path: Path, **variables: str) -> Iterator[Deployment]:
    """A deployment that ends with the test, and whose every repository all judges read at the end.

    Its logs are searched for what they must not hold.
    """
    server = EmbeddedServer(path / "server")
    server.start()
    running = Deployment(path, server, variables)
    try:
        yield running
    finally:
        running.stop()
    assert_all_readable(running.store)
    assert_nothing_repeated([*path.glob("*.log"), *path.glob("server/*.log")], running.store)
