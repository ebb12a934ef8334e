"""Running processes under strace: their log as steps of the file system, or faults put into it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.judge import GIT_ENVIRONMENT

_CALLS = (
    "openat,creat,write,writev,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,chdir"
)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
#: A path, and in front of it the folder that it is relative to, if the call names one.
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>, )?"((?:\\x[0-9a-f]{2})*)"')
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")

ROOT = Path(__file__).parents[2]


def need_strace() -> None:
    """Skip the test, loudly, where strace is missing or may not trace; fail it in CI."""
    path = shutil.which("strace")
    if path is not None:
        tried = subprocess.run([path, "-o", "/dev/null", "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return
    if os.environ.get("CI") == "true":
        pytest.fail("strace is missing, or may not trace: the crash tests cannot run in CI")
    pytest.skip("strace is missing, or may not trace: THE CRASH TESTS DO NOT RUN")


def writer_command(path: Path, *options: str) -> list[str]:
    """The command line of `tests.crash.writer`."""
    return [sys.executable, "-m", "tests.crash.writer", str(path), *options]


def environment() -> dict[str, str]:
    """For processes that import this project, whatever the current folder."""
    return {**GIT_ENVIRONMENT, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that succeeded."""

    pid: int
    name: str
    #: The text between the brackets.
    arguments: str
    #: The string arguments, decoded.
    strings: tuple[bytes, ...]
    result: int

    def paths(self, folder: str) -> list[str]:
        """The string arguments as absolute paths, for a process that is in `folder`."""
        return [
            os.path.normpath(os.path.join(folder, _decoded(base), _decoded(path)))
            for base, path in _PATH.findall(self.arguments)
        ]

    def touched(self) -> list[str]:
        """The paths that the call names, and that of its descriptor."""
        shown = re.match(r"\d+<((?:\\x[0-9a-f]{2})*)>", self.arguments)
        return [*([_decoded(shown[1])] if shown else []), *self.paths("/")[:2]]

    @property
    def descriptor(self) -> int:
        """The first argument as a file descriptor."""
        return int(self.arguments.split("<", 1)[0].split(",", 1)[0])


def _decoded(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text.replace("\\x", "")))


def trace(commands: Sequence[Sequence[str]], log: Path) -> list[Call]:
    """Run the commands one after the other under one strace; their calls in order."""
    calls: list[Call] = []
    for command in commands:
        subprocess.run(
            ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "9999999", "-o", str(log),
             "-e", f"trace={_CALLS}", *command],
            env=environment(),
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=60,
        )  # fmt: skip
        calls += parse(log.read_text())
    return calls


def parse(log: str) -> Iterator[Call]:
    """The calls of a log that succeeded, in the order in which they ended."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        if found := _UNFINISHED.match(line):
            begun[found[1]] = found[2]
            continue
        if found := _RESUMED.match(line):
            line = f"{found[1]} {begun.pop(found[1])}{found[2]}"
        if (found := _LINE.match(line)) and int(found[4]) >= 0:
            strings = tuple(
                bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(found[3])
            )
            yield Call(int(found[1]), found[2], found[3], strings, int(found[4]))


def run_with_fault(
    command: Sequence[str], call: str, number: int, fault: str, log: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command whose `number`-th `call` (from 1) meets a fault.

    Args:
        fault: strace's word for it: `signal=KILL`, `error=EIO`.
    """
    # With the faster `--seccomp-bpf`, strace puts in errors, but no signals.
    faster = () if fault.startswith("signal") else ("--seccomp-bpf",)
    done = subprocess.run(
        ["strace", "-f", *faster, "-o", str(log), "-e", f"trace={call}",
         "-e", f"inject={call}:{fault}:when={number}", *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    _assert_met(call, number, fault, log)
    return done


def _assert_met(call: str, number: int, fault: str, log: Path) -> None:
    happened = "killed by SIGKILL" if fault.startswith("signal") else "(INJECTED)"
    assert happened in log.read_text(), f"{fault} did not come to {call} {number}"


def put_fault_into(pid: int, call: str, number: int, fault: str, log: Path) -> None:
    """The same for a process that stands still: let it go on with the fault, to its end."""
    with subprocess.Popen(
        ["strace", "-f", "-o", str(log), "-e", f"trace={call}",
         "-e", f"inject={call}:{fault}:when={number}", "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    ) as tracer:  # fmt: skip
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        # It goes on whether it is traced or not: nobody else would end it.
        os.kill(pid, signal.SIGCONT)
        tracer.communicate(timeout=60)
    assert "attached" in said, said
    _assert_met(call, number, fault, log)
