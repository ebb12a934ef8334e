"""Reads what `confkeep status --watch` shows, and works out speed and latency between looks.

A look costs a dozen commands, and a small file for each tenant that is shown, however many wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.models import Receipt
from confkeep.settings import Settings
from worker.cli.called import tenant_name
from worker.observe.metrics import LATENCY_BOUNDS_MS
from worker.process.workers import WorkerStatus, list_workers
from worker.queue import backoff, totals
from worker.queue.backoff import Backoff
from worker.queue.dead_letters import DeadLetter, list_dead_letters
from worker.queue.inboxes import (
    InboxStatus,
    Load,
    count_inboxes,
    list_inboxes,
    queue_depths,
    read_load,
    server_time_ms,
)
from worker.queue.totals import Totals

#: Most rows of each list that are shown.
MOST_ROWS: Final = 12
#: How many inboxes to read: those with the oldest entries.
_INBOXES: Final = 100
#: With more dead letters than this, show only how many there are.
_DEAD: Final = 500
#: Seconds over which speed and latency are measured; at least two looks.
_WINDOW_S: Final = 10.0
#: How many speeds to draw, one for each look.
_SPEEDS: Final = 24


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A deployment's state at a moment."""

    server_ms: int
    totals: Totals
    workers: list[WorkerStatus]
    #: The inboxes with the oldest entries, at most 100.
    inboxes: list[InboxStatus]
    inbox_count: int
    waits: Mapping[str, Backoff]
    load: Load
    wakeups: int
    recent: list[Receipt]
    dead_count: int
    #: The newest last; empty when there are very many.
    dead: list[DeadLetter]
    #: What people call the tenants of the first rows of each list, of those that have a name.
    tenant_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened within the last seconds."""

    seconds: float
    committed_per_s: float
    enqueued_per_s: float
    #: From enqueue to receipt; None if nothing was committed.
    latency_mean_s: float | None
    #: Half, and 95 of 100, took at most this long. These are bounds of a histogram.
    latency_half_s: float | None
    latency_95_s: float | None


def look(client: redis.Redis, settings: Settings) -> Snapshot:
    """Read the state.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    inboxes = list_inboxes(client, _INBOXES)
    pipe = client.pipeline(transaction=False)
    pipe.hlen(keys.DEAD)
    dead_count = redis_values.answers(pipe)[0] or 0
    waits = backoff.get_many(client, [box.tenant_id for box in inboxes])
    recent = totals.read_recent(client)
    shown = (
        [box.tenant_id for box in inboxes[:MOST_ROWS]],
        [tenant_id for tenant_id, _ in backoff.urgent_first(waits)[:MOST_ROWS]],
        [commit.tenant_id for commit in recent[:MOST_ROWS]],
    )
    return Snapshot(
        server_ms=server_time_ms(client),
        totals=totals.read_totals(client),
        workers=list_workers(client),
        inboxes=inboxes,
        inbox_count=count_inboxes(client),
        waits=waits,
        load=read_load(client),
        wakeups=sum(queue_depths(client, settings).values()),
        recent=recent,
        dead_count=int(dead_count),
        dead=list_dead_letters(client) if 0 < int(dead_count) <= _DEAD else [],
        tenant_names=_names(chain(*shown)),
    )


def _names(tenant_ids: Iterable[str]) -> dict[str, str]:
    """Read at each look, since a tenant may be renamed meanwhile."""
    found = {tenant_id: tenant_name(tenant_id) for tenant_id in dict.fromkeys(tenant_ids)}
    return {tenant_id: name for tenant_id, name in found.items() if name is not None}


class Pace:
    """Speed and latency, from the differences of the counters of the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, Totals]] = deque()
        #: Commits a second between each two of the last looks, oldest first.
        self.speeds: deque[float] = deque(maxlen=_SPEEDS)

    def add(self, snapshot: Snapshot) -> None:
        if self._looks:
            before_ms, before = self._looks[-1]
            if snapshot.totals.committed < before.committed or snapshot.server_ms < before_ms:
                # The server was emptied, and the counters started from 0 again.
                self._looks.clear()
            elif snapshot.server_ms > before_ms:
                seconds = (snapshot.server_ms - before_ms) / 1000
                self.speeds.append((snapshot.totals.committed - before.committed) / seconds)
        self._looks.append((snapshot.server_ms, snapshot.totals))
        while len(self._looks) > 2 and (snapshot.server_ms - self._looks[1][0] >= _WINDOW_S * 1000):
            self._looks.popleft()

    def rates(self) -> Rates | None:
        """The rates within the window; None after only one look."""
        if len(self._looks) < 2:
            return None
        (first_ms, first), (last_ms, last) = self._looks[0], self._looks[-1]
        seconds = max(0.001, (last_ms - first_ms) / 1000)
        count = last.latency.count - first.latency.count
        return Rates(
            seconds=seconds,
            committed_per_s=(last.committed - first.committed) / seconds,
            enqueued_per_s=(last.enqueued - first.enqueued) / seconds,
            latency_mean_s=(last.latency.sum_s - first.latency.sum_s) / count if count else None,
            latency_half_s=_within(first, last, 0.5),
            latency_95_s=_within(first, last, 0.95),
        )


def _within(first: Totals, last: Totals, part: float) -> float | None:
    """The lowest bound within which `part` of the commits between the two were done."""
    count = last.latency.count - first.latency.count
    if not count:
        return None
    for bound_ms in LATENCY_BOUNDS_MS:
        bound_s = bound_ms / 1000
        if last.latency.buckets[bound_s] - first.latency.buckets[bound_s] >= part * count:
            return bound_s
    return float("inf")
