"""A worker as the tests want it: the product's own, but for what the options change.

Usage: python -m tests.chaos.worker NAME POOL CONCURRENCY [OPTION...]

    visibility=SECONDS   how long the broker waits for an acknowledgement
    hold-before=FILE     the first turn to come stands still before its commit, with FILE written
    hold-after=FILE      the same between its commit and its receipts
    sync=MILLISECONDS    most time that a sync takes longer, at random: in memory it takes none
    mutant=settle-first  takes entries out of the inbox before they are committed
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import worker.app
from tests.turns import as_dead
from worker.cli import service
from worker.queue.inbox import Begun, Inbox
from worker.store.writing.commit import Writer


def _hold(marker: Path, *, after: bool) -> None:
    real: Callable[..., Any] = Writer.commit_backups

    def commit(*arguments: Any, **options: Any) -> Any:
        answer = real(*arguments, **options) if after else None
        try:
            with marker.open("x") as file:
                file.write(f"{os.getpid()} {os.getppid()}")
        except FileExistsError:
            return answer if after else real(*arguments, **options)
        time.sleep(600)
        raise AssertionError("nobody killed it")

    Writer.commit_backups = commit  # type: ignore[method-assign]


def _slow_syncs(most_s: float) -> None:
    real = os.fsync

    def fsync(fd: Any) -> None:
        # Most take a moment, and a few long.
        time.sleep(most_s * random.random() ** 4)
        real(fd)

    os.fsync = fsync


def _settle_first() -> None:
    real = Inbox.begin

    def begin(self: Inbox, *arguments: Any, **options: Any) -> Begun:
        begun = real(self, *arguments, **options)
        self.settle(begun.batch.entries, marks=as_dead(begun.batch.entries))
        return begun

    Inbox.begin = begin  # type: ignore[method-assign]


def main() -> None:
    name, pool, concurrency = sys.argv[1:4]
    for option in sys.argv[4:]:
        what, _, value = option.partition("=")
        match what, value:
            case "visibility", _:
                worker.app.VISIBILITY_TIMEOUT_S = int(value)
            case "sync", _:
                _slow_syncs(int(value) / 1000)
            case "hold-before" | "hold-after", _:
                _hold(Path(value), after=what == "hold-after")
            case "mutant", "settle-first":
                _settle_first()
            case _:
                raise SystemExit(f"unknown option {option}")
    # As `confkeep worker` does: Celery's command line is a quarter of what a start costs.
    with service.loading():
        started = worker.app.app.Worker(
            hostname=f"{name}@test",
            pool_cls=pool,
            concurrency=int(concurrency),
            loglevel="info",
            optimization="fair",
            without_mingle=True,
            without_gossip=True,
            quiet=True,
        )
    started.start()
    sys.exit(started.exitcode)


if __name__ == "__main__":
    main()
