"""`confkeep status --watch`: shows a deployment again and again, on a terminal or into a pipe.

While Redis does not answer, it says so and asks again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import redis

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable
from confkeep.settings import Settings
from worker.cli import interrupts
from worker.cli.interrupts import Interrupts
from worker.cli.terminal import Terminal
from worker.cli.watch_state import Pace, Snapshot, look
from worker.cli.watch_view import View
from worker.process.waits import advice
from worker.queue import backoff

#: Seconds within which Ctrl-C is noticed.
_NOTICE_S: Final = 0.1
#: Seconds to wait for an answer of Redis.
_TIMEOUT_S: Final = 2.0

#: What a look saw, the pace so far, and why it saw nothing; one of the outer two is None.
Look = tuple[Snapshot | None, Pace, str | None]


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
    # Ctrl-C is the usual end: no error, and the screen is as before.
    with contextlib.suppress(KeyboardInterrupt), interrupts.noted() as asked:
        live = terminal.out.is_terminal and not terminal.out.is_dumb_terminal and not as_json
        looks = _looks(client, settings, asked, interval_s, count)
        if live:
            _show(terminal, settings, looks, interval_s)
        else:
            for seen in looks:
                values = _values(settings, *seen)
                terminal.line(json.dumps(values) if as_json else _pairs(values))
                terminal.out.file.flush()
    client.close()


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
        # Wait until a fixed time, so that the duration of the looks does not delay later ones.
        next_at = max(next_at + interval_s, time.monotonic())
        asked.check()
        while (left_s := next_at - time.monotonic()) > 0:
            time.sleep(min(left_s, _NOTICE_S))
            asked.check()


def _show(terminal: Terminal, settings: Settings, looks: Iterator[Look], interval_s: float) -> None:
    # `status` without --watch loads this module too, and does not need it.
    from rich.live import Live

    last: Snapshot | None = None
    away_since: float | None = None
    with Live(console=terminal.out, screen=True, auto_refresh=False) as live:
        for snapshot, pace, problem in looks:
            last, outage = snapshot or last, None
            if problem is None:
                away_since = None
            else:
                away_since = away_since or time.monotonic()
                outage = (problem, time.monotonic() - away_since)
            live.update(View(last, pace, settings, interval_s, outage), refresh=True)


def _pairs(values: dict[str, Any]) -> str:
    """The values that are known as `name=value`."""
    return " ".join(
        f"{name}={json.dumps(value) if isinstance(value, str) and ' ' in value else value}"
        for name, value in values.items()
        if value is not None
    )


def _values(
    settings: Settings, snapshot: Snapshot | None, pace: Pace, problem: str | None
) -> dict[str, Any]:
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
        "latency_s": rates and rates.latency_mean_s and round(rates.latency_mean_s, 3),
        "waiting": snapshot.load.entries,
        "waiting_bytes": snapshot.load.bytes,
        "tenants": snapshot.inbox_count,
        "oldest_s": oldest and round(oldest, 3),
        "stalled": sum(wait.stalled for wait in snapshot.waits.values()),
        "wakeups": snapshot.wakeups,
        "dead": snapshot.dead_count,
        "workers": len(snapshot.workers),
    }
    for tenant_id, wait in backoff.urgent_first(snapshot.waits)[:1]:
        values["reason"] = wait.reason
        values["next_step"] = advice(wait.reason, settings, tenant_id)
    return values
