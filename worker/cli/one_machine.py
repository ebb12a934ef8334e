"""Runs an embedded server and its workers on one data folder, and ends them in order.

DATA/store/       the tenants' repositories
DATA/redis/       the server's append-only file
DATA/logs/        the logs of the workers, of HTTP and of what sends webhooks
DATA/up.json      how other commands reach it, while it runs
DATA/up.lock      held while it runs, by the server too, so that no second one starts beside an
                  orphaned server
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import redis

from confkeep import modes
from confkeep.broker.connections import get_client
from confkeep.errors import (
    BrokerUnavailable,
    ConfkeepError,
    InvalidId,
    InvalidInput,
    InvalidSettings,
)
from confkeep.settings import get_settings, load_settings, variable_of
from worker.cli import running
from worker.cli.interrupts import Interrupts
from worker.cli.running import RunningUp
from worker.http import tokens
from worker.http.listening import listen
from worker.process.local import Child, EmbeddedServer
from worker.process.workers import list_workers

#: Seconds for a worker to report.
_READY_S: Final = 60.0
_POLL_S: Final = 0.05
#: Seconds in which a server that broke its connections has ended.
_ENDING_S: Final = 1.0
#: Where HTTP listens, whatever the setting says: its token may do everything.
_LOOPBACK: Final = "127.0.0.1"
#: Libraries of the extra `http` that sending webhooks needs.
_HOOKS_NEED: Final = ("httpcore", "standardwebhooks")
#: The name of the token that ends with the session.
_SESSION: Final = "this session"
_DEMO_MARK: Final = "made-by-confkeep-demo"


class AlreadyRunning(ConfkeepError):
    """The data folder is in use by another `confkeep up` or demo."""

    hint = "End it with Ctrl-C where it runs, or name another folder with --data."
    exit_code = 4


class NotADemo(ConfkeepError):
    """The folder that a demo should use holds something that is not a demo's."""

    hint = "Name an empty folder, or one that does not exist yet, with --data."
    exit_code = 6


class PartEnded(ConfkeepError):
    """The server or a worker ended by itself, or never got ready."""

    hint = "The last lines of that log say why."
    exit_code = 5


class OneMachine:
    """A running server, its workers, and what serves HTTP and sends webhooks. Not thread-safe."""

    def __init__(self, data: Path, lock: int, concurrency: int, interrupts: Interrupts) -> None:
        """The server holds `lock` open too."""
        self.data = data
        self.store = data / "store"
        self.server = EmbeddedServer(data / "redis", pass_fds=(lock,))
        self._interrupts = interrupts
        self._concurrency = concurrency
        #: When each worker was started.
        self._started: dict[str, float] = {}
        #: All but the server, by the name of the log.
        self.parts: dict[str, Child] = {}
        #: A token for everything, and the address that signs a browser in with it; they end with the session.
        self.token = self.page = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which other commands reach it."""
        return self.address().environment

    def address(self) -> RunningUp:
        """What other commands need to reach it."""
        return RunningUp(os.getpid(), str(self.server.socket), str(self.store))

    def log_of(self, part: str) -> Path:
        return self.data / "logs" / f"{part}.log"

    def start_worker(self, index: int) -> None:
        """Start a worker; `index` names it."""
        name = f"worker-{index + 1}"
        port = get_settings().metrics_port
        # All workers are on this machine: each needs a port of its own.
        own_port = {variable_of("metrics_port"): str(port + index)} if port else {}
        self._started[name] = time.monotonic()
        options = ("--concurrency", str(self._concurrency), "--name", name)
        self._start(name, "worker", *options, **own_port)

    def _start(self, name: str, *arguments: str, **variables: str) -> None:
        """Start another command of confkeep, with variables on top of ours."""
        modes.make_folders(self.data / "logs")
        # -P: modules in the user's current folder must not shadow ours.
        command = [sys.executable, "-P", "-m", "confkeep", *arguments]
        environment = {**os.environ, **self.environment, **variables}
        self.parts[name] = Child(command, log=self.log_of(name), env=environment)

    def start_http(self, port: int) -> None:
        """Start `confkeep http` on this machine's loopback; `wait_for_http` waits until it serves."""
        self._start("http", "http", "--port", str(port), "--address", _LOOPBACK)

    def wait_for_http(self, port: int) -> None:
        """Wait until HTTP is served, and make a token for this session; raises as `wait_until_ready`."""

        def serves() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((_LOOPBACK, port), 1):
                return True
            return False

        self._wait_for("http", serves)
        with self._client() as client:
            _forget_session(client)
            self.token, _ = tokens.create(client, _SESSION, [tokens.ALL], tokens.RIGHTS)
        self.page = f"http://{_LOOPBACK}:{port}/enter?token={self.token}"

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.environment["CONFKEEP_REDIS_URL"])

    def start_hooks(self) -> None:
        """Start `confkeep hooks run`, if the extra that it needs is installed."""
        if all(importlib.util.find_spec(name) is not None for name in _HOOKS_NEED):
            self._start("hooks", "hooks", "run")

    def wait_until_ready(self) -> None:
        """Wait until each worker has reported for the first time since its start.

        Raises:
            PartEnded: one ended, or did not report in time.
            KeyboardInterrupt: a signal came that asks us to end.
        """
        client = get_client(load_settings(redis_url=self.server.url))
        for name in self._started:
            self._wait_for(name, partial(self._has_reported, client, name))

    def _has_reported(self, client: redis.Redis, name: str) -> bool:
        running_s = time.monotonic() - self._started[name]
        return any(
            worker.name.partition("@")[0] == name and worker.last_sweep_age_s < running_s
            for worker in list_workers(client)
        )

    def _wait_for(self, part: str, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_S
        self.check()
        while not is_ready():
            if time.monotonic() > deadline:
                raise PartEnded(
                    f"{part} did not get ready in {_READY_S:.0f} s; see {self.log_of(part)}"
                )
            time.sleep(_POLL_S)
            self.check()

    def check(self) -> None:
        """Check that all parts run, and that no signal has asked us to end; call it often.

        Raises:
            PartEnded: one has ended.
            KeyboardInterrupt: a signal has asked us to end.
        """
        self._interrupts.check()
        if not self.server.running():
            problem, hint = self.server.why_not("the server ended")
            raise PartEnded(problem, hint=hint)
        for name, part in self.parts.items():
            if not part.running():
                status = part.process.returncode
                raise PartEnded(f"{name} ended with status {status}; see {self.log_of(name)}")

    def check_after_loss(self) -> None:
        """As `check`, once the server's connection broke: it may be about to end."""
        deadline = time.monotonic() + _ENDING_S
        while time.monotonic() < deadline:
            self.check()
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End HTTP, then all but the server at the same time, then that. No signal interrupts this half-way."""
        with self._interrupts.held():
            if "http" in self.parts:
                self.parts["http"].stop()
            if self.token:
                # A server that is gone has no session either.
                with contextlib.suppress(redis.RedisError, ConfkeepError), self._client() as client:
                    _forget_session(client)
            for part in self.parts.values():
                part.ask_to_end()
            for part in self.parts.values():
                part.stop()
            self.server.stop()


@contextmanager
def run(
    data: Path,
    *,
    workers: int,
    concurrency: int,
    interrupts: Interrupts,
    http_port: int | None = None,
) -> Iterator[OneMachine]:
    """Run a server and workers on `data` while the block runs; all have ended afterwards.

    Args:
        http_port: serve HTTP there too, on the loopback.

    Raises:
        InvalidInput: another program listens on that port.
        AlreadyRunning: another process uses this folder.
        PartEnded, BrokerUnavailable, ServerMissing: a part does not start.
        KeyboardInterrupt: a signal came before all parts were ready.
    """
    modes.make_folders(data)
    data = data.resolve()
    with ExitStack() as stack:
        machine = OneMachine(data, stack.enter_context(locked(data)), concurrency, interrupts)
        if http_port is not None:
            _require_free(http_port)
        # Before anything starts, since each start may fail, and a second signal may come at any line.
        stack.callback(machine.stop)
        stack.callback(running.forget, data)
        machine.server.start(check=interrupts.check)
        for index in range(workers):
            machine.start_worker(index)
        if http_port is not None:
            # Beside the workers: both take seconds to import what they need.
            machine.start_http(http_port)
        try:
            machine.wait_until_ready()
            if http_port is not None:
                machine.wait_for_http(http_port)
        except BrokerUnavailable:
            machine.check_after_loss()
            raise
        machine.address().write(data)
        yield machine


def empty_for_demo(data: Path) -> None:
    """Make a folder ready for a demo: remove what an earlier one left there, and mark it.

    Raises:
        NotADemo: it holds something else; nothing is removed then.
        AlreadyRunning: a demo runs there.
    """
    if data.exists() and any(data.iterdir()) and not (data / _DEMO_MARK).exists():
        raise NotADemo(f"{data} holds something else than an earlier demo")
    modes.make_folders(data)
    with locked(data):
        for name in ("store", "redis", "logs"):
            if (data / name).exists():
                shutil.rmtree(data / name)
        (data / _DEMO_MARK).touch()


def keep_for_good(data: Path) -> None:
    """Remove the mark, so that no later demo empties this folder."""
    (data / _DEMO_MARK).unlink(missing_ok=True)


@contextmanager
def locked(data: Path) -> Iterator[int]:
    """Hold the data folder for this process; yields the lock's descriptor.

    Raises:
        AlreadyRunning: another process has it.
    """
    descriptor = os.open(data / running.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = ""
            with contextlib.suppress(OSError):
                pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            by = f"process {pid}" if pid else "another `confkeep up` or demo"
            raise AlreadyRunning(f"{data} is in use by {by}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_free(port: int) -> None:
    """Refuse a port that is taken: who listens there would be given the session's token."""
    try:
        listen(_LOOPBACK, port).close()
    except InvalidSettings as error:
        hint = "Name a free port."
        if isinstance(error.__cause__, PermissionError):
            hint = "Ports below 1024 are the system's: name a higher one."
        raise InvalidInput("--http", error.problem, hint=hint) from None


def _forget_session(client: redis.Redis) -> None:
    """Revoke the token of a session, also of one that was killed."""
    with contextlib.suppress(InvalidId):
        tokens.revoke(client, _SESSION)
