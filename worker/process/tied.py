"""Runs a command that the kernel ends when its parent ends. Imports nothing of ours, since it runs as a program.

`python -I -S tied.py PARENT_PID COMMAND ...` becomes the command: same process id, same open
files. It stands between fork and exec, where the parent cannot do it for the child: Python code
that runs there in a process with threads may meet a lock that nobody holds any more.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1


def command_tied_to_this_process(command: list[str]) -> list[str]:
    """The command to start instead of `command`, so that it gets SIGTERM when we end in any way.

    We means the thread that starts it: the kernel looks at that one. Where the kernel is not
    Linux's the command stays as it is.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent_pid: int, command: list[str]) -> NoReturn:
    """Become `command`; end at once when the parent is gone by now."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have ended before the kernel was asked.
    if os.getppid() != parent_pid:
        sys.exit(1)
    # Ignored by every Python process, and inherited by what it becomes.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - a list of our own making, and no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
