"""`confkeep status --watch`: reads a deployment's state again and again; how it looks is `watch_view`.

A broker that is away is shown, and asked again. Everything is bounded: a look costs a dozen commands
however many tenants wait.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable
from confkeep.settings import Settings, get_settings
from worker.cli import interrupts
from worker.cli.interrupts import Interrupts
from worker.cli.terminal import Terminal
from worker.observe.metrics import LATENCY_BOUNDS_MS
from worker.process.sweeper import WorkerStatus, list_workers
from worker.process.waits import advice
from worker.queue import backoff, totals
from worker.queue.backoff import Backoff
from worker.queue.dead_letters import DeadLetter, list_dead_letters
from worker.queue.inbox import (
    InboxStatus,
    Load,
    count_inboxes,
    list_inboxes,
    queue_depths,
    read_load,
    server_time_ms,
)
from worker.queue.totals import RecentCommit, Totals

#: Inboxes that are looked at, those with the oldest entries.
_INBOXES: Final = 100
#: Dead letters up to which they are read; of more only the number is told.
_DEAD: Final = 500
#: Seconds over which speed and latency are told, at least two looks.
WINDOW_S: Final = 10.0
#: Looks whose speed is drawn.
SPEEDS: Final = 24
#: Seconds within which Ctrl-C is noticed.
_NOTICE_S: Final = 0.1
#: Seconds to wait for an answer of Redis.
_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A deployment's state at a moment."""

    server_ms: int
    totals: Totals
    workers: list[WorkerStatus]
    #: Those with the oldest entries, at most 100.
    inboxes: list[InboxStatus]
    inbox_count: int
    waits: Mapping[str, Backoff]
    load: Load
    wakeups: int
    recent: list[RecentCommit]
    dead_count: int
    #: The newest last; empty when there are very many.
    dead: list[DeadLetter]


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened within the last seconds."""

    seconds: float
    committed_per_s: float
    enqueued_per_s: float
    #: From enqueue to receipt; None: nothing was committed.
    latency_mean_s: float | None
    #: At most this long for half, and for 95 of 100, of them: the bounds of a histogram.
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
    return Snapshot(
        server_ms=server_time_ms(client),
        totals=totals.read_totals(client),
        workers=list_workers(client),
        inboxes=inboxes,
        inbox_count=count_inboxes(client),
        waits=backoff.get_many(client, [box.tenant_id for box in inboxes]),
        load=read_load(client),
        wakeups=sum(queue_depths(client, settings).values()),
        recent=totals.read_recent(client),
        dead_count=int(dead_count),
        dead=list_dead_letters(client) if 0 < int(dead_count) <= _DEAD else [],
    )


class Pace:
    """Speed and latency, from the differences of the counters of the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, Totals]] = deque()
        #: Commits a second between each two of the last looks, oldest first.
        self.speeds: deque[float] = deque(maxlen=SPEEDS)

    def add(self, snapshot: Snapshot) -> None:
        """Take a further look into account."""
        if self._looks:
            before_ms, before = self._looks[-1]
            if snapshot.totals.committed < before.committed or snapshot.server_ms < before_ms:
                # An empty server: the counters began anew.
                self._looks.clear()
            elif snapshot.server_ms > before_ms:
                seconds = (snapshot.server_ms - before_ms) / 1000
                self.speeds.append((snapshot.totals.committed - before.committed) / seconds)
        self._looks.append((snapshot.server_ms, snapshot.totals))
        while len(self._looks) > 2 and (snapshot.server_ms - self._looks[1][0] >= WINDOW_S * 1000):
            self._looks.popleft()

    def rates(self) -> Rates | None:
        """Those of the window; None: there was only one look."""
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
    """The bound that `part` of what was committed between the two kept."""
    count = last.latency.count - first.latency.count
    if not count:
        return None
    for bound_ms in LATENCY_BOUNDS_MS:
        bound_s = bound_ms / 1000
        if last.latency.buckets[bound_s] - first.latency.buckets[bound_s] >= part * count:
            return bound_s
    return float("inf")


def watch(
    terminal: Terminal,
    settings: Settings,
    *,
    interval_s: float,
    count: int | None,
    as_json: bool,
) -> None:
    """Show the state every `interval_s` seconds until Ctrl-C or `count` looks.

    On a terminal one view that stays in its place; else one line for each look.
    """
    client = open_client(settings, timeout_s=min(_TIMEOUT_S, settings.redis_timeout_s))
    # Ctrl-C is how it ends: no error, and the screen as it was.
    with contextlib.suppress(KeyboardInterrupt), interrupts.noted() as asked:
        live = terminal.out.is_terminal and not terminal.out.is_dumb_terminal and not as_json
        looks = _looks(client, settings, asked, interval_s, count)
        if live:
            _show(terminal, settings, looks, interval_s)
        else:
            for snapshot, pace, problem in looks:
                terminal.line(
                    _json_line(snapshot, pace, problem)
                    if as_json
                    else text_line(snapshot, pace, problem)
                )
                terminal.out.file.flush()
    client.close()


Look = tuple[Snapshot | None, Pace, str | None]


def _looks(
    client: redis.Redis,
    settings: Settings,
    asked: Interrupts,
    interval_s: float,
    count: int | None,
) -> Iterator[Look]:
    """The state, or why there is none, every `interval_s` seconds."""
    pace = Pace()
    next_at = time.monotonic()
    for number in itertools.count(1):
        try:
            snapshot = look(client, settings)
        except BrokerUnavailable as error:
            yield None, pace, str(error)
        else:
            pace.add(snapshot)
            yield snapshot, pace, None
        if number == count:
            return
        # By the clock: the time that a look takes does not add up.
        next_at = max(next_at + interval_s, time.monotonic())
        asked.check()
        while (left_s := next_at - time.monotonic()) > 0:
            time.sleep(min(left_s, _NOTICE_S))
            asked.check()


def _show(terminal: Terminal, settings: Settings, looks: Iterator[Look], interval_s: float) -> None:
    from rich.live import Live

    from worker.cli import watch_view

    last: Snapshot | None = None
    failing_since: float | None = None
    with Live(console=terminal.out, screen=True, auto_refresh=False) as live:
        for snapshot, pace, problem in looks:
            if problem is None:
                last, failing_since = snapshot, None
            elif failing_since is None:
                failing_since = time.monotonic()
            outage = (
                None
                if problem is None or failing_since is None
                else (problem, time.monotonic() - failing_since)
            )
            view = watch_view.View(last, pace, settings, interval_s, outage)
            live.update(view, refresh=True)


def text_line(snapshot: Snapshot | None, pace: Pace, problem: str | None) -> str:
    """One look as `name=value` pairs, for a pipe."""
    values = _values(snapshot, pace, problem)
    return " ".join(
        f"{name}={json.dumps(value) if isinstance(value, str) and ' ' in value else value}"
        for name, value in values.items()
        if value is not None
    )


def _json_line(snapshot: Snapshot | None, pace: Pace, problem: str | None) -> str:
    return json.dumps(_values(snapshot, pace, problem))


def _values(snapshot: Snapshot | None, pace: Pace, problem: str | None) -> dict[str, Any]:
    if snapshot is None:
        now = dt.datetime.now(dt.UTC)
        return {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}", "problem": problem}
    rates = pace.rates()
    when = dt.datetime.fromtimestamp(snapshot.server_ms / 1000, dt.UTC)
    oldest = max((box.oldest_age_s for box in snapshot.inboxes), default=None)
    values: dict[str, Any] = {
        "time": f"{when:%Y-%m-%dT%H:%M:%SZ}",
        "committed": snapshot.totals.committed,
        "committed_per_s": rates and round(rates.committed_per_s, 2),
        "enqueued_per_s": rates and round(rates.enqueued_per_s, 2),
        "latency_s": _rounded(None if rates is None else rates.latency_mean_s),
        "waiting": snapshot.load.entries,
        "waiting_bytes": snapshot.load.bytes,
        "tenants": snapshot.inbox_count,
        "oldest_s": _rounded(oldest),
        "stalled": sum(wait.stalled for wait in snapshot.waits.values()),
        "wakeups": snapshot.wakeups,
        "dead": snapshot.dead_count,
        "workers": len(snapshot.workers),
    }
    return values | _worst_fault(snapshot)


def _worst_fault(snapshot: Snapshot) -> dict[str, str]:
    """Why the tenant waits that a person should look at first, and the next step."""
    waits = snapshot.waits.items()
    if not waits:
        return {}
    tenant_id, wait = min(waits, key=lambda item: (not item[1].stalled, item[1].since_ms))
    return {"reason": wait.reason, "next_step": advice(wait.reason, get_settings(), tenant_id)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
