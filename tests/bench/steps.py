"""`python -m tests.bench.steps`: what each step of a backup takes, in its producer, the server and a worker.

Microseconds a backup, if a turn finds 100 and if it finds one. Steps are timed in this process, which does what producer
and worker do without Celery; what Celery takes is the difference to a real worker.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pygit2
import pytest
import redis

import confkeep.enqueue
from confkeep.broker import scripts
from confkeep.broker.scripts import Script
from confkeep.models import BackupPayload
from confkeep.queue import acceptance, staging
from confkeep.queue.staging import RedisStaging
from tasks import enqueue_backups
from tasks.commit import commit_inbox
from tests.bench.costs import Tenants, drain, server_cpu_s
from tests.bench.producing import producing
from tests.bench.table import median_costs
from tests.servers import Deployment
from worker.engine.batch import BatchCommitter
from worker.queue.inbox import Inbox
from worker.store.git import pack
from worker.store.history.index import HistoryIndex
from worker.store.writing import batch, commit
from worker.store.writing.batch import Batch
from worker.store.writing.commit import Writer

#: Backups of a tenant that one turn finds, and of how many tenants.
_SIZES = {100: 8, 1: 50}
_ROUNDS = 3
#: Of each script, what the server does in it.
_SCRIPTS = ("accept", "begin", "settle")
_SEND = "call of the script {}, to its answer"
_REST = "the rest"
#: What each function does but for what is a step itself.
_STEPS: tuple[tuple[str, Any, str], ...] = (
    ("check the fields", BackupPayload, "checked"),
    ("SHA-256", confkeep.enqueue, "entry_of"),
    ("deflate the export, put both files together", RedisStaging, "stage"),
    ("arguments of the script accept", acceptance, "_arguments"),
    ("read the entries", Inbox, "begin"),
    ("open and close the repository", commit, "create_repository"),
    ("open and close the repository", Writer, "close"),
    ("inflate the export, take both files apart", staging, "split"),
    ("SHA-256", staging, "checked"),
    ("history index", HistoryIndex, "known_before"),
    ("history index", HistoryIndex, "append"),
    ("SHA-1 of both files, which detects collisions", pygit2, "hash"),
    ("line counts, what looks suspect", batch, "detail_of"),
    ("deflate", pack, "deflate"),
    ("trees and commits", Batch, "add"),
    ("pack and idx, written", commit, "write_pack"),
    ("the ref, moved", commit, "move_main"),
    ("syncs of pack, idx, folder and ref", os, "fsync"),
    ("receipts and events", BatchCommitter, "run"),
    ("arguments of the script settle", Inbox, "settle"),
)


class Meter:
    """Sums the time of steps, each without those within it, by step: (elapsed, of a processor)."""

    def __init__(self) -> None:
        self.elapsed_ns: Counter[str] = Counter()
        self.cpu_ns: Counter[str] = Counter()
        self._threads = threading.local()

    def step(self, name: str, run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run it as a step of this name."""
        open_steps = self._threads.__dict__.setdefault("steps", [])
        self._lap(open_steps)
        open_steps.append(name)
        try:
            found = run(*arguments, **options)
            return list(found) if isinstance(found, Iterator) else found
        finally:
            self._lap(open_steps)
            open_steps.pop()

    def _lap(self, open_steps: Sequence[str]) -> None:
        now = time.perf_counter_ns(), time.thread_time_ns()
        if open_steps:
            elapsed_ns, cpu_ns = self._threads.since
            self.elapsed_ns[open_steps[-1]] += now[0] - elapsed_ns
            self.cpu_ns[open_steps[-1]] += now[1] - cpu_ns
        self._threads.since = time.perf_counter_ns(), time.thread_time_ns()


@contextmanager
def _metered(meter: Meter, server: redis.Redis | None) -> Iterator[None]:
    """Let `meter` see all steps; with `server`, what the scripts take of its processor and nothing else."""
    run_script = Script.run
    names = {scripts.load(name).sha1: name for name in _SCRIPTS}

    def run(script: Script, *arguments: Any) -> Any:
        name = names.get(script.sha1)
        if server is None or name is None:
            return meter.step(_SEND.format(name), run_script, script, *arguments)
        # To ask costs the server something too.
        first, second = server_cpu_s(server), server_cpu_s(server)
        answer = run_script(script, *arguments)
        meter.cpu_ns[name] += round(1e9 * (server_cpu_s(server) - second - (second - first)))
        return answer

    def as_step(step: str, real: Any) -> Callable[..., Any]:
        return lambda *arguments, **options: meter.step(step, real, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Script, "run", run)
        for step, owner, name in _STEPS if server is None else ():
            wrapped = as_step(step, getattr(owner, name))
            is_bound = isinstance(inspect.getattr_static(owner, name), classmethod)
            patch.setattr(owner, name, staticmethod(wrapped) if is_bound else wrapped)
        yield


def _in_this_process(tenants: Tenants, size: int, server: redis.Redis | None) -> list[Meter]:
    """What producer and worker do, without Celery; with `server`, see `_metered`."""
    producer, worker = Meter(), Meter()
    for _ in range(_ROUNDS):
        for tenant_id in tenants.ids[: _SIZES[size]]:
            waiting = tenants.backups_of(tenant_id, size)
            with _metered(producer, server):
                producer.step(_REST, enqueue_backups, waiting)
            with _metered(worker, server):
                worker.step(_REST, commit_inbox, tenant_id)
    return [producer, worker]


def _with_celery(deployed: Deployment, tenants: Tenants, size: int) -> list[float]:
    """Seconds a backup in a real worker: elapsed, and of the processor in its main process, in its pool's, in the server."""
    [main_process] = [psutil.Process(worker.pid) for worker in deployed.workers]
    costs = []
    for _ in range(_ROUNDS + 1):
        chosen = tenants.ids[: _SIZES[size]]
        waiting = [one for tenant_id in chosen for one in tenants.backups_of(tenant_id, size)]
        own_s = sum(main_process.cpu_times()[:2])
        spent = drain(deployed, waiting)
        own_s = (sum(main_process.cpu_times()[:2]) - own_s) / len(waiting)
        costs.append((spent.wall_s, own_s, spent.worker_cpu_s - own_s, spent.server_cpu_s))
    # The first one warms up.
    return median_costs(costs[1:])


def _rows(
    size: int, meters: Sequence[Meter], of_server: Sequence[Meter], with_celery: Sequence[float]
) -> Iterator[tuple[str, str, str]]:
    """Process, step and microseconds a backup, elapsed and of a processor."""
    backups = _ROUNDS * size * _SIZES[size]

    def us(ns: float) -> str:
        return f"{ns / 1e3:,.0f}"

    wall_s, main_s, child_s, server_s = with_celery
    in_steps_ns = 0.0
    for process, meter in zip(("producer", "worker"), meters, strict=True):
        for step in (
            *dict.fromkeys(step for step, *_ in _STEPS),
            *map(_SEND.format, _SCRIPTS),
            _REST,
        ):
            if step in meter.elapsed_ns:
                figures = us(meter.elapsed_ns[step] / backups), us(meter.cpu_ns[step] / backups)
                yield process, step, " | ".join(figures)
        in_steps_ns = meter.cpu_ns.total() / backups
        yield (
            process,
            "all of these",
            f"{us(meter.elapsed_ns.total() / backups)} | {us(in_steps_ns)}",
        )
    yield "worker", "Celery in its pool's process", f" | {us(child_s * 1e9 - in_steps_ns)}"
    yield "worker", "Celery in its main process", f" | {us(main_s * 1e9)}"
    scripts_ns = sum((meter.cpu_ns for meter in of_server), Counter())
    for name in _SCRIPTS:
        yield "server", f"the script {name}", f" | {us(scripts_ns[name] / backups)}"
    celery_ns = server_s * 1e9 - (scripts_ns["begin"] + scripts_ns["settle"]) / backups
    yield "server", "Celery's commands of the worker", f" | {us(celery_ns)}"
    yield "all", "turns of a real worker", f"{us(wall_s * 1e9)} | {us((main_s + child_s) * 1e9)}"


def main() -> None:
    """Print the table."""
    with producing(CONFKEEP_SHARDS="4", CONFKEEP_REPACK_PACKS="0") as deployed:
        tenants = Tenants(max(_SIZES.values()))
        tenants.found(deployed.store)
        deployed.start_worker()
        with_celery = {size: _with_celery(deployed, tenants, size) for size in _SIZES}
        deployed.workers.pop().stop()
        columns = {}
        with deployed.client() as client:
            for size in _SIZES:
                _in_this_process(tenants, size, None)
                meters = _in_this_process(tenants, size, None)
                of_server = _in_this_process(tenants, size, client)
                columns[size] = {
                    (process, step): figures
                    for process, step, figures in _rows(size, meters, of_server, with_celery[size])
                }
    heads = " | ".join(f"{size} at once: elapsed | of a processor" for size in _SIZES)
    print(f"| process | step | {heads} |\n|---|---|---|---|---|---|")
    first, *others = columns.values()
    for (process, step), figures in first.items():
        cells = [figures, *(other.get((process, step), " | ") for other in others)]
        print(f"| {process} | {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
