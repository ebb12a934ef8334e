"""Turns of one backup: syncs, round trips, time and latency, with this code and with that of before, in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.bench.fleet import folder
from tests.bench.table import Row, alternate

#: The last commit before a turn was one script at its begin and one at its end.
BEFORE = "09db1c7"
_ROOT = Path(__file__).parents[2]
_ROUNDS = 9


def rows() -> Iterator[Row]:
    """The table's rows; none where that commit is not in the repository."""
    known = subprocess.run(
        ["git", "-C", str(_ROOT), "cat-file", "-e", f"{BEFORE}^{{commit}}"], check=False
    )
    if known.returncode:
        print(f"turns: {BEFORE} is not here (a shallow clone?): NOT MEASURED", file=sys.stderr)
        return
    with ExitStack() as stack:
        where = stack.enter_context(folder())
        trees = [_ROOT, stack.enter_context(_worktree(where / "before"))]
        both = [stack.enter_context(_Measured(tree)) for tree in trees]
        yield from _rows(*both)


def _rows(now: _Measured, before: _Measured) -> Iterator[Row]:
    turns = alternate([lambda: now.turn_s(), lambda: before.turn_s()], _ROUNDS)
    latencies = [(now.ask("latency"), before.ask("latency")) for _ in range(_ROUNDS)]
    own, old = (statistics.median(costs) for costs in zip(*turns, strict=True))
    yield Row(
        "durable backups/s, one backup a turn, 50 tenants, against the code of before",
        old / own,
        1.5,
        None,
        detail=f"{1 / own:,.0f}/s and {1 / old:,.0f}/s",
    )
    for name, part in (("p50", 50), ("p99", 99)):
        mine, others = (
            statistics.quantiles([one for times in found for one in times], n=100)[part - 1]
            for found in zip(*latencies, strict=True)
        )
        yield Row(
            f"idle latency {name} from enqueue to durable receipt, against the code of before",
            mine / others,
            0.75,
            None,
            smaller_is_better=True,
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
        yield Row(
            f"{name}, part of {most}",
            mine / most,
            1,
            None,
            smaller_is_better=True,
            detail=f"{mine:g} and {others:g} before",
        )


class _Measured:
    """A process that runs `turn_figures` with the code of one tree."""

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            # Without the folder of the program in its path: there is a `queue.py`.
            [sys.executable, "-P", str(Path(__file__).with_name("turn_figures.py"))],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> Any:
        """What it answers to a word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def turn_s(self) -> float:
        """Seconds of a turn that finds one backup."""
        return float(self.ask("fleet")["wall_s"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@contextmanager
def _worktree(path: Path) -> Iterator[Path]:
    """The code of before, checked out for the run."""
    git = ["git", "-C", str(_ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(path), BEFORE], check=True)
    try:
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=True)


if __name__ == "__main__":
    for row in rows():
        print("  ".join(filter(None, row.as_cells())))
