"""The command line on a terminal, as tests watch it and type."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class OnTerminal:
    """The command on a terminal of its own, of 80 by 30."""

    def __init__(
        self,
        *arguments: str,
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        **variables: str,
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(30)
        # These two win over the terminal's own size; runners of tests in parallel set them.
        inherited = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "confkeep", *arguments],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TERM": "xterm-256color", **variables},
            start_new_session=True,
        )
        os.close(slave)

    def resize(self, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))

    def until(self, wanted: Callable[[str], bool], what: str) -> str:
        """What was written since the last call, up to where `wanted` holds."""
        deadline, came = time.monotonic() + 30, ""
        while not wanted(came):
            assert time.monotonic() < deadline, f"waited for {what}: {came!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                data = self.read()
                assert data, f"it ended before {what}: {came!r}"
                came += data.decode("utf-8", "replace")
        return came

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def rest(self) -> str:
        """What is written from here to the end."""
        return b"".join(iter(self.read, b"")).decode("utf-8").replace("\r\n", "\n")

    def read(self) -> bytes:
        """The next bytes that are written; none at the end."""
        try:
            return os.read(self.master, 65_536)
        except OSError:  # nobody has the other end open any more
            return b""

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
