"""What the queue costs: durable backups against Celery tasks that do nothing, on one broker."""

from __future__ import annotations

import base64
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.result import AsyncResult

from confkeep.settings import get_settings
from tasks import enqueue_backup, enqueue_backups
from tests.bench import noop
from tests.bench.costs import values_of
from tests.bench.fleet import Fleet, folder
from tests.bench.producing import producer_of, producing
from tests.bench.table import Row, alternate, at_most, median_costs, timed
from tests.replicated import nodes
from tests.servers import Deployment
from worker.process.local import Child

_BACKUPS = 2_000
#: Backups that the plain writer gets: it takes long.
_PLAIN = 150
_DEVICES = 200
_ROUNDS = 3
_CALLS = 500
_LATENCIES = 300
_TIMEOUT_S = 300


def rows() -> Iterator[Row]:
    """The table's rows, measured with one worker process for each app."""
    with producing(CONFKEEP_SHARDS="4") as deployed:
        yield from _enqueue(deployed)
        _drop_all(deployed)
        deployed.start_worker("own", pool="prefork")
        with _noop_worker(deployed):
            yield from _throughput()
            yield from _latency()
    yield from _replicated()


@contextmanager
def _noop_worker(deployed: Deployment) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.noop:app", "worker"]
    command += [
        "--concurrency",
        "1",
        "--without-mingle",
        "--without-gossip",
        "--hostname",
        "n@test",
    ]
    worker = Child(command, log=deployed.path / "noop.log")
    try:
        noop.noop.delay().get(timeout=30)
        yield
    finally:
        worker.stop()


class _Backups:
    """New backups of some tenants, round robin."""

    def __init__(self, tenants: int) -> None:
        self._fleet = Fleet(_DEVICES)
        self._tenants = [str(uuid.uuid4()) for _ in range(tenants)]
        self._number = 0

    def next(self, number: int) -> list[Any]:
        return [self._one() for _ in range(number)]

    def _one(self) -> Any:
        self._number += 1
        backup = self._fleet.backup(self._fleet.random.choice(self._fleet.device_ids))
        tenant_id = self._tenants[self._number % len(self._tenants)]
        return {**values_of(tenant_id, backup), "backup_id": str(uuid.uuid4())}


def _wait_for(results: list[AsyncResult]) -> None:
    for result in results:
        result.get(timeout=_TIMEOUT_S)


def _kept(tenants: int, at_once: int) -> Callable[[], float]:
    backups = _Backups(tenants)

    def run() -> float:
        wanted = backups.next(_BACKUPS)

        def keep() -> None:
            results = []
            for start in range(0, _BACKUPS, at_once):
                results += enqueue_backups(wanted[start : start + at_once])
            _wait_for(results)

        return timed(keep) / _BACKUPS

    return run


def _plain() -> Callable[[], float]:
    backups = _Backups(1)

    def run() -> float:
        wanted = backups.next(_PLAIN)
        tenant = wanted[0]["tenant_id"]

        def send() -> list[AsyncResult]:
            return [
                noop.keep.delay(
                    f"{tenant[:-1]}{'1' if tenant[-1] == '0' else '0'}",
                    {
                        "backup_id": values["backup_id"],
                        "device_id": values["device_id"],
                        "export": values["export_text"],
                        "binary": base64.b64encode(values["binary_backup"]).decode(),
                        "message": values["message"],
                    },
                )
                for values in wanted
            ]

        return timed(lambda: _wait_for(send())) / _PLAIN

    return run


def _noop() -> float:
    return timed(lambda: _wait_for([noop.noop.delay() for _ in range(_BACKUPS)])) / _BACKUPS


def _throughput() -> Iterator[Row]:
    contenders = (_noop, _kept(1, 100), _kept(1, 1), _kept(50, 100), _plain())
    empty, one, single, many, plain_tasks = median_costs(alternate(contenders, _ROUNDS))
    for name, cost, against, bound, aim in (
        ("one tenant, enqueued by 100, against no-op tasks", one, empty, 2.8, 3.5),
        ("one tenant, enqueued one by one, against no-op tasks", single, empty, None, None),
        ("50 tenants over 4 shards, by 100, against no-op tasks", many, empty, 1.2, 1.8),
        ("one tenant, by 100, against a plain commit in a task each", one, plain_tasks, 8, 12),
    ):
        yield Row(
            f"durable backups/s, {name}",
            against / cost,
            bound,
            aim,
            detail=f"{1 / cost:,.0f}/s and {1 / against:,.0f}/s",
        )


def _fresh(deployed: Deployment, run: Callable[[], float]) -> Callable[[], float]:
    """What waits from one round must not make the server's next one dearer."""

    def in_turn() -> float:
        with deployed.client() as client:
            client.flushall()
        return run()

    return in_turn


def _enqueues() -> tuple[Callable[[], float], Callable[[], float]]:
    """What a backup costs its producer, one by one and by 100."""
    backups = _Backups(1)

    def single() -> float:
        wanted = backups.next(_CALLS)
        return timed(lambda: [enqueue_backup(**values) for values in wanted]) / _CALLS

    def chunks() -> float:
        wanted = backups.next(_CALLS)
        parts = [wanted[start : start + 100] for start in range(0, _CALLS, 100)]
        return timed(lambda: [enqueue_backups(part) for part in parts]) / _CALLS

    return single, chunks


def _enqueue(deployed: Deployment) -> Iterator[Row]:
    single, chunks = _enqueues()

    def empty() -> float:
        return timed(lambda: [noop.noop.delay() for _ in range(_CALLS)]) / _CALLS

    rounds = alternate([_fresh(deployed, way) for way in (single, empty, chunks)], 2 * _ROUNDS + 1)
    one, delay, hundred = median_costs(rounds)
    yield Row(
        "enqueue_backup calls/s, 68 kB each, against noop.delay()",
        delay / one,
        1,
        1.3,
        detail=f"{1 / one:,.0f}/s and {1 / delay:,.0f}/s",
    )
    yield Row(
        "enqueue_backups by 100, 68 kB each, backups/s against noop.delay()",
        delay / hundred,
        3,
        4.5,
        detail=f"{1 / hundred:,.0f}/s and {1 / delay:,.0f}/s",
    )


def _replicated() -> Iterator[Row]:
    """What it costs to wait for a replica on the same disk, against not to; both have one."""
    with folder() as where, nodes(where, 1) as (master, _replica):
        deployed = Deployment(where, master.server)

        def waiting(replicas: int, run: Callable[[], float]) -> Callable[[], float]:
            def in_turn() -> float:
                os.environ["CONFKEEP_REPLICAS"] = str(replicas)
                get_settings.cache_clear()
                return run()

            return _fresh(deployed, in_turn)

        ways = [waiting(n, run) for run in _enqueues() for n in (0, 1)]
        with producer_of(deployed):
            rounds = alternate(ways, 2 * _ROUNDS + 1)
    one, one_waiting, hundred, hundred_waiting = median_costs(rounds)
    for name, without, with_one in (
        ("one by one", one, one_waiting),
        ("by 100", hundred, hundred_waiting),
    ):
        yield Row(
            f"enqueued {name}, 68 kB each, waiting for one replica, against not waiting",
            without / with_one,
            None,
            detail=f"{1 / with_one:,.0f}/s and {1 / without:,.0f}/s",
        )


def _latency() -> Iterator[Row]:
    backups = _Backups(1)
    own: list[float] = []
    empty: list[float] = []
    for values in backups.next(_LATENCIES):
        own.append(timed(lambda values=values: enqueue_backup(**values).get(timeout=_TIMEOUT_S)))  # type: ignore[misc]
        empty.append(timed(lambda: noop.noop.delay().get(timeout=_TIMEOUT_S)))
        # Idle means that the last wake-up has been answered.
        time.sleep(0.01)
    for name, part, most_s in (("p50", 50, 0.060), ("p99", 99, 0.250)):
        mine, nothing = (statistics.quantiles(times, n=100)[part - 1] for times in (own, empty))
        yield at_most(
            f"idle latency {name} from enqueue to durable receipt, part of {most_s * 1e3:.0f} ms",
            mine / most_s,
            1,
            0.67,
            detail=f"{mine * 1e3:.1f} ms, a no-op {nothing * 1e3:.1f} ms",
        )


def _drop_all(deployed: Deployment) -> None:
    with deployed.client() as client:
        client.flushall()
