"""Runs a command that the kernel ends when its parent ends. Imports nothing of ours, since it runs as a program.

As little else too as it can: it is in front of each server and worker that a command starts.
`python -I -S tied.py PARENT_PID COMMAND ...` replaces itself with the command: same process id, same
open files. Only the child can ask the kernel for this. The parent must not run Python code between fork
and exec: if it has threads, one may have held a lock at the fork that nobody in the child releases.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command_tied_to_this_process(command: list[str]) -> list[str]:
    """The command to start instead of `command`, so that it gets SIGTERM however we end.

    The kernel sends it when the thread that started the command ends. On other systems than Linux
    the command stays as it is.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def end_with(parent_pid: int, number: int) -> None:
    """Let the kernel send this process a signal when its parent ends; end at once if that has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    # The parent may have ended before the kernel was asked.
    if os.getppid() != parent_pid:
        os._exit(1)


def main(parent_pid: int, command: list[str]) -> None:
    """Become `command`; end at once if the parent has ended."""
    end_with(parent_pid, signal.SIGTERM)
    # Python ignores these signals, and the command would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - a list of our own making, and no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
