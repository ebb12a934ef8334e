"""Git's own commands in tenants' repositories, one after the other, as people run them from cron."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.judge import GIT_ENVIRONMENT

COMMANDS = (
    "repack -adq",
    "gc -q --prune=now",
    "gc -q",
    "pack-refs --all",
    "repack -dq --geometric=2",
)
#: Most seconds between the end of a command and the next one.
_MOST_BETWEEN_S = 0.1
_END_S = 60.0
_TICK_S = 0.01


class Maintenance:
    """Runs at most one command at a time. `beside` and `kill` may be called from different threads."""

    def __init__(self, store: Path, log: Path, chance: random.Random) -> None:
        self._store = store
        self._log = log
        self._random = chance
        self._running: subprocess.Popen[bytes] | None = None
        self._next_s = 0.0
        self._lock = threading.Lock()
        #: How often each command was started.
        self.started: Counter[str] = Counter()

    @contextmanager
    def beside(self, tenants: Sequence[str]) -> Iterator[None]:
        """Run commands all the time, each in the repository of one of the tenants, until the end of this."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(_TICK_S):
                with self._lock:
                    self._go_on(tenants)

        # The faults wait for the broker and for dying processes; git does not wait for them.
        thread = threading.Thread(target=run, name="git beside", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._end()

    def _go_on(self, tenants: Sequence[str]) -> None:
        if self._is_running() or time.monotonic() < self._next_s:
            return
        path = self._store / f"{self._random.choice(tenants)}.git"
        if not path.exists():
            return
        command = self._random.choice(COMMANDS)
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                ["git", "-C", str(path), *command.split()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=GIT_ENVIRONMENT,
                # A group of its own: git starts others, who die with it.
                start_new_session=True,
            )
        self.started[f"git {command}"] += 1

    def kill(self) -> bool:
        """Kill the command that runs. False: none does."""
        with self._lock:
            if self._running is None or not self._is_running():
                return False
            os.killpg(self._running.pid, signal.SIGKILL)
            return self._running.wait() == -signal.SIGKILL

    def _end(self) -> None:
        if self._running is None:
            return
        try:
            self._running.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"git ran for more than {_END_S} s") from None

    def _is_running(self) -> bool:
        if self._running is None:
            return False
        if self._running.poll() is None:
            return True
        self._running = None
        self._next_s = time.monotonic() + self._random.uniform(0, _MOST_BETWEEN_S)
        return False
