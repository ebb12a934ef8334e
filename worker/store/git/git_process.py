"""Runs the git binary in a repository: with a deadline, at low priority, and killed for certain.

Every git that confkeep runs is started here. Our settings override those of the machine, the user
and the repository where it matters, and git syncs what it writes.
"""

from __future__ import annotations

import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from confkeep import modes
from confkeep.errors import GitUnavailable, MaintenanceFailed
from worker.store.git import ownership, refusals

#: The first version with `core.fsync`.
OLDEST_GIT: Final = (2, 36)

#: The niceness at which git maintains a repository, so that commits go first.
NICE: Final = 10
_POLL_S: Final = 0.25
#: Seconds within which a killed process must have ended.
_END_S: Final = 30.0
#: Most characters of git's error output that an error quotes.
_MOST_SAID: Final = 300

#: A git that ends by itself with an error mostly met damage, which no other time mends.
_GIT_FAILED: Final = (
    "`confkeep verify` says whether the repository is damaged, and what to do about it; if it is "
    "sound, try again."
)

#: A callback that gets what git is doing, how much is done, and how much there is.
Progress = Callable[[str, int, int], None]

_PROGRESS = re.compile(rb"(?:remote: )?([A-Z][A-Za-z ]+): +\d+% \((\d+)/(\d+)\)")

_CONFIGURATION: Final = (
    "core.fsync=all",
    "core.fsyncMethod=fsync",
    "pack.threads=1",
    # Otherwise a few dozen large binaries are in memory at once.
    "pack.windowMemory=256m",
    "pack.writeReverseIndex=false",
    "repack.writeBitmaps=false",
    "gc.auto=0",
    # It only makes reading faster, and git reads no other copy of an object than the one that it names.
    "core.multiPackIndex=false",
    "core.commitGraph=true",
)


@functools.cache
def _version(binary: str) -> tuple[int, int]:
    """The binary's version, cached for the process once it is known.

    Raises:
        OSError, ValueError, subprocess.TimeoutExpired: it does not say, this time.
    """
    done = subprocess.run([binary, "version"], capture_output=True, timeout=10, check=False)
    found = re.match(rb"git version (\d+)\.(\d+)", done.stdout)
    if found is None:
        raise ValueError("no version")
    return int(found[1]), int(found[2])


def git_problem() -> str | None:
    """Why maintenance cannot run on this machine: a sentence; None if git is new enough."""
    binary = shutil.which("git")
    if binary is None:
        return "there is no git on PATH: repositories are not repacked"
    try:
        version = _version(binary)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "git does not run: repositories are not repacked"
    if version < OLDEST_GIT:
        needed, found = (".".join(map(str, numbers)) for numbers in (OLDEST_GIT, version))
        return f"git {found} is older than {needed}: repositories are not repacked"
    return None


def require_git() -> None:
    """Check that git is installed and new enough.

    Raises:
        GitUnavailable: it is not, or it is too old.
    """
    problem = git_problem()
    if problem is not None:
        raise GitUnavailable(problem)


def _environment(path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **inherited,
        # With an explicit `GIT_DIR`, git also accepts a repository that belongs to another user.
        "GIT_DIR": os.path.abspath(path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }


@dataclass(frozen=True, slots=True)
class Finished:
    """A git that has ended."""

    code: int
    printed: bytes
    #: The end of its error output, without progress.
    said: str


@dataclass(frozen=True, slots=True)
class Git:
    """Git for one repository, until a deadline."""

    path: Path
    #: A descriptor that every git inherits, so that the lock on it is held for as long as git runs.
    #: None if there is no such lock.
    held: int | None
    #: When git is killed, on the monotonic clock.
    deadline: float
    progress: Progress | None = None
    #: Called now and then; git is killed if it returns True.
    stop: Callable[[], bool] | None = None
    #: Environment variables that override ours.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Whether root starts git as the repository's owner.
    as_owner: bool = True
    nice: int = NICE

    def run(self, *arguments: str, stdin: Iterable[bytes] = ()) -> bytes:
        """Run git; returns what it prints, which must be short.

        Git and its descendants have ended when this returns or raises.

        Raises:
            GitUnavailable: there is no usable git.
            MaintenanceFailed: git failed, the deadline was reached, or it was asked to stop.
            OSError: the file system refused, to git too.
        """
        done = self.finish(*arguments, stdin=stdin)
        if done.code:
            # Options and `-c` settings come before git's subcommand.
            name = next(word for word in arguments if word[0] != "-" and "=" not in word)
            full = refusals.of_the_disk(done.said)
            if full is not None:
                raise OSError(full, os.strerror(full))
            words = done.said.strip()[-_MOST_SAID:]
            raise MaintenanceFailed(
                f"{self.path.name}: git {name} ended with {done.code}: {words}", hint=_GIT_FAILED
            )
        return done.printed

    def finish(self, *arguments: str, stdin: Iterable[bytes] = ()) -> Finished:
        """Like `run`, for a git whose failure is an answer.

        Raises:
            GitUnavailable, OSError: as `run`.
            MaintenanceFailed: the deadline was reached, or it was asked to stop.
        """
        with tempfile.TemporaryFile() as given:
            given.writelines(stdin)
            given.seek(0)
            process = self.start(*arguments, stdin=given, stderr=subprocess.PIPE)
        try:
            printed, said = self._follow(process)
        finally:
            end(process)
        return Finished(process.returncode, printed, said.decode("utf-8", "replace"))

    def start(
        self, *arguments: str, stdin: IO[bytes] | int, stderr: int
    ) -> subprocess.Popen[bytes]:
        """A git that runs; the caller has to `end` it.

        Raises:
            GitUnavailable, OSError: as `run`.
        """
        require_git()
        command = ["git"]
        for setting in _CONFIGURATION:
            command += ["-c", setting]
        rights = ownership.rights_for(self.path) if self.as_owner else ownership.Rights()
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**_environment(self.path), **rights.environment, **self.environment},
            user=rights.user,
            group=rights.group,
            extra_groups=rights.extra_groups,
            cwd=self.path,
            pass_fds=() if self.held is None else (self.held,),
            # A process group of its own, so that all that it starts can be killed with it.
            process_group=0,
            # Only in the child: our process has other threads.
            umask=modes.umask_for(self.path),
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PGRP, process.pid, self.nice)
        return process

    def _follow(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """All of git's standard and error output, until it closes both."""
        assert process.stdout is not None
        assert process.stderr is not None
        printed, said = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, printed)
            selector.register(process.stderr, selectors.EVENT_READ, said)
            while selector.get_map():
                self._check()
                for key, _events in selector.select(_POLL_S):
                    data = os.read(key.fd, 65_536)
                    if not data:
                        selector.unregister(key.fileobj)
                    key.data.extend(data)
                    if key.data is said:
                        self._report(said)
        while process.poll() is None:
            self._check()
            time.sleep(0.001)
        return bytes(printed), bytes(said)

    def _check(self) -> None:
        if time.monotonic() > self.deadline:
            raise MaintenanceFailed(f"{self.path.name}: git took too long")
        if self.stop is not None and self.stop():
            raise MaintenanceFailed(f"{self.path.name}: the worker was asked to end")

    def _report(self, said: bytearray) -> None:
        """Remove the progress from git's error output."""
        *whole, rest = re.split(rb"[\r\n]", said)
        kept = bytearray()
        for line in whole:
            found = _PROGRESS.match(line)
            if found is None:
                kept += line + b"\n"
            elif self.progress is not None:
                self.progress(found[1].decode("ascii"), int(found[2]), int(found[3]))
        said[:] = kept[-65_536:] + rest


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill git and all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    if process.stderr is not None:
        with process.stderr:
            _await_descendants(process.stderr.fileno())


def _await_descendants(said: int) -> None:
    """Wait until no process has the other end open: one that still writes would interfere."""
    deadline = time.monotonic() + _END_S
    with selectors.DefaultSelector() as selector:
        selector.register(said, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            if not os.read(said, 65_536):
                return
