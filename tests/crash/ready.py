"""Writers that have imported everything: each run is a fork, and costs no start of Python.

    python -m tests.crash.ready

It reads a line of JSON for each run: the writer's arguments, and the files for its stdout and stderr. It
writes the process id of the fork, which stands still until it gets a SIGCONT, and then its exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash import strace, writer

_PR_SET_PTRACER, _ANYBODY = 0x59616D61, -1


class Ready:
    """The process that forks, as the tests see it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def run(
        self, path: Path, *options: str, fault: tuple[str, int, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the writer on a repository.

        Args:
            options: those of the writer.
            fault: a call, which of its kind from 1, and strace's word for what it meets.
        """
        out, err = self._folder / "stdout", self._folder / "stderr"
        command = [str(path), *options]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, str(out), str(err)]) + "\n")
        self._process.stdin.flush()
        pid = self._answer()
        if fault is None:
            os.kill(pid, signal.SIGCONT)
        else:
            strace.put_fault_into(pid, *fault, self._folder / "fault")
        return subprocess.CompletedProcess(
            command, self._answer(), out.read_text(), err.read_text()
        )

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks ended"
        return int(line)


@contextmanager
def ready(folder: Path) -> Iterator[Ready]:
    """Have it for some tests, with its files in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.ready"],
        env=strace.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Ready(process, folder)


def _become_writer(arguments: list[str], out: str, err: str) -> None:
    for descriptor, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    # Some systems let only a parent trace.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    sys.argv[1:] = arguments
    code = 1
    try:
        code = writer.main()
    except BaseException:  # a fork must not go on as its parent would
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Fork for each line."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_writer(*json.loads(line))
        os.waitpid(pid, os.WUNTRACED)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
