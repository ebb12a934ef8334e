"""Which workers a deployment has, as their sweeps report it, and which shards nobody serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis

from confkeep.broker import keys, redis_values
from worker.queue import sweep_report
from worker.queue.sweep_report import SweepReport

#: When a silent worker is forgotten: where others serve its shards, after so many times the age at which it counts as
#: silent, which is a minute by default; where nobody does, after so many seconds.
_FORGET_SERVED = 4
_FORGET_MISSED_S = 3_600.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker, as its sweep reports it."""

    name: str
    shards: list[int]
    last_sweep_age_s: float
    #: Its last sweep may be so old before it counts as silent.
    silent_after_s: float
    #: The latest unforeseen error in one of its threads; None if there was none lately.
    trouble: str | None = None

    @property
    def silent(self) -> bool:
        """Whether its last sweep is so old that its shards count as unserved."""
        return self.last_sweep_age_s > self.silent_after_s


def unserved(workers: Sequence[WorkerStatus], shards: int) -> list[int]:
    """The shards that no sweeping worker serves, in order."""
    return sorted(set(range(shards)) - _served(workers))


def _served(workers: Sequence[WorkerStatus]) -> set[int]:
    return {shard for worker in workers if not worker.silent for shard in worker.shards}


def list_workers(client: redis.Redis) -> list[WorkerStatus]:
    """The workers that swept lately, by name.

    One that was killed is told for a minute where others serve its shards, since nothing waits for it (longer if it
    swept seldom), and for an hour where nobody does. One that ended in order is gone at once.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return _recent(_reported(client))


def forget_workers(client: redis.Redis) -> None:
    """Delete the reports that `list_workers` leaves out: each killed worker would leave one for ever."""
    workers = _reported(client)
    recent = _recent(workers)
    gone = [worker.name for worker in workers if worker not in recent]
    if gone:
        client.hdel(keys.WORKERS, *gone)


def _recent(workers: Sequence[WorkerStatus]) -> list[WorkerStatus]:
    served = _served(workers)

    def forgotten_after_s(worker: WorkerStatus) -> float:
        is_replaced = served.issuperset(worker.shards)
        return _FORGET_SERVED * worker.silent_after_s if is_replaced else _FORGET_MISSED_S

    return [worker for worker in workers if worker.last_sweep_age_s < forgotten_after_s(worker)]


def reports(client: redis.Redis) -> list[tuple[SweepReport, float]]:
    """What each worker reported last, by name, and how many seconds ago.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.time()
    pipe.hgetall(keys.WORKERS)
    now, found = redis_values.answers(pipe)
    parsed = (sweep_report.parse(name, text) for name, text in sorted((found or {}).items()))
    return [
        # A report from the future was written before the server's clock was set back.
        (report, abs(now[0] + now[1] / 1e6 - report.swept_ms / 1000))
        for report in parsed
        if report is not None
    ]


def _reported(client: redis.Redis) -> list[WorkerStatus]:
    return [
        WorkerStatus(report.name, report.shards, age_s, report.silent_after_s, report.trouble)
        for report, age_s in reports(client)
    ]
