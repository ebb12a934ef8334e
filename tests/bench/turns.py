"""Turns of one backup: syncs, round trips, time and latency, with this code and with that of before, in one run."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from tests.bench.before import Measured, now_and_before
from tests.bench.table import Row, alternate, at_most

#: The last commit before a turn was one script at its begin and one at its end.
BEFORE = "09db1c7"
_ROUNDS = 9


def rows() -> Iterator[Row]:
    """The table's rows; none where that commit is not in the repository."""
    with now_and_before(BEFORE, "turn_figures.py") as both:
        if both is not None:
            yield from _rows(*both)


def _rows(now: Measured, before: Measured) -> Iterator[Row]:
    turns = alternate([lambda: _turn_s(now), lambda: _turn_s(before)], _ROUNDS)
    latencies = [(now.ask("latency"), before.ask("latency")) for _ in range(_ROUNDS)]
    own, old = (statistics.median(costs) for costs in zip(*turns, strict=True))
    yield Row(
        "durable backups/s, one backup a turn, 50 tenants, against the code of before",
        old / own,
        1.5,
        detail=f"{1 / own:,.0f}/s and {1 / old:,.0f}/s",
    )
    for name, part in (("p50", 50), ("p99", 99)):
        mine, others = (
            statistics.quantiles([one for times in found for one in times], n=100)[part - 1]
            for found in zip(*latencies, strict=True)
        )
        yield at_most(
            f"idle latency {name} from enqueue to durable receipt, against the code of before",
            mine / others,
            0.75,
            detail=f"{mine * 1e3:.1f} and {others * 1e3:.1f} ms",
        )
    # Last: it stops the workers.
    for what, name, most in (
        ("syncs", "syncs of the server's file for a turn of one, with its enqueue and wake-up", 6),
        ("trips", "round trips of a worker for a turn of one, without Celery's", 5),
    ):
        mine, others = now.ask(what), before.ask(what)
        if mine is None:
            print("turns: strace is missing: SYNCS NOT COUNTED", file=sys.stderr)
            continue
        yield at_most(
            f"{name}, part of {most}", mine / most, detail=f"{mine:g} and {others:g} before"
        )


def _turn_s(measured: Measured) -> float:
    """Seconds of a turn that finds one backup."""
    return float(measured.ask("fleet")["wall_s"])
