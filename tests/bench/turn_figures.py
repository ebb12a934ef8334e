"""What turns of one backup cost with the code that PYTHONPATH names; `turns` runs it for two trees.

It reads one word a line and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis.connection

from confkeep.broker import keys
from tasks import commit, enqueue_backup, enqueue_backups
from tests.bench.costs import Tenants, server_cpu_s, workers_cpu_s
from tests.bench.producing import producing
from tests.bench.table import timed
from tests.servers import Deployment, wait_for

_TENANTS = 50
#: Turns whose syncs are counted.
_COUNTED = 20
#: Enqueues whose latency is measured at a time.
_LATENCIES = 50
_TIMEOUT_S = 120


class Measured:
    """A deployment with one worker process, whose tenants have a backup now and then."""

    def __init__(self, deployed: Deployment) -> None:
        self._deployed = deployed
        self._tenants = Tenants(_TENANTS)
        self._tenants.found(deployed.store)
        self._worker = psutil.Process(deployed.start_worker().pid)
        self.fleet()

    def fleet(self) -> dict[str, float]:
        """Seconds of a turn that finds one backup, each tenant's in turn, and the processors' share."""
        waiting = self._tenants.backups(1)
        everyone = [self._worker, *self._worker.children(recursive=True)]
        for process in everyone:
            process.suspend()
        with self._deployed.client() as client:
            enqueue_backups(waiting)
            worker_s, server_s = workers_cpu_s([self._worker]), server_cpu_s(client)
            for process in everyone:
                process.resume()
            wall_s = timed(lambda: wait_for(lambda: not client.exists(keys.WAITING), "the turns"))
            return {
                "wall_s": wall_s / _TENANTS,
                "worker_s": (workers_cpu_s([self._worker]) - worker_s) / _TENANTS,
                "server_s": (server_cpu_s(client) - server_s) / _TENANTS,
            }

    def latency(self) -> list[float]:
        """Seconds from an enqueue to its durable receipt, nothing else being on the way."""
        found = []
        for values in self._idle(_LATENCIES):
            began = time.perf_counter()
            enqueue_backup(**values).get(timeout=_TIMEOUT_S)
            found.append(time.perf_counter() - began)
        return found

    def syncs(self) -> float | None:
        """Syncs of the server's file for each backup: its enqueue, its wake-up and its turn; None without strace."""
        if shutil.which("strace") is None:
            return None
        # Before it is counted all that happens once has happened.
        list(map(self._keep, self._idle(3)))
        log = self._deployed.path / "syncs.strace"
        with _straced(self._deployed.server.pid, log):
            list(map(self._keep, self._idle(_COUNTED)))
        return log.read_text().count("sync(") / _COUNTED

    def trips(self) -> float:
        """Round trips of a worker for a turn of one backup, without Celery's."""
        self._deployed.workers.pop().stop()
        counted: list[int] = []
        send = redis.connection.AbstractConnection.send_packed_command

        def counting(*arguments: Any, **options: Any) -> Any:
            counted.append(1)
            return send(*arguments, **options)  # type: ignore[no-untyped-call]

        redis.connection.AbstractConnection.send_packed_command = counting  # type: ignore[method-assign]
        found = []
        for values in self._tenants.backups(1)[:10]:
            enqueue_backup(**values)
            counted.clear()
            commit.commit_inbox(values["tenant_id"])
            found.append(len(counted))
        redis.connection.AbstractConnection.send_packed_command = send  # type: ignore[method-assign]
        return found[-1]

    def _keep(self, values: Any) -> None:
        enqueue_backup(**values).get(timeout=_TIMEOUT_S)

    def _idle(self, count: int) -> Iterator[Any]:
        """New backups, each given out when all of the one before is over."""
        with self._deployed.client() as client:
            for values in self._tenants.backups(1)[:count]:
                yield values
                wait_for(lambda: not client.exists(keys.UNACKED), "the acknowledgement")


@contextmanager
def _straced(pid: int, log: Path) -> Iterator[None]:
    """Note the syncs of a process and its threads."""
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(log), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        # It says so when it is attached.
        tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.terminate()


def main() -> None:
    """Answer until there is nothing more to read."""
    # Nothing but the turns may write: no sweep while they are measured.
    with producing(CONFKEEP_SHARDS="4", CONFKEEP_SWEEP_INTERVAL_S="30") as deployed:
        measured = Measured(deployed)
        ways: dict[str, Callable[[], Any]] = {
            "fleet": measured.fleet,
            "latency": measured.latency,
            "syncs": measured.syncs,
            "trips": measured.trips,
        }
        for line in sys.stdin:
            print(json.dumps(ways[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
