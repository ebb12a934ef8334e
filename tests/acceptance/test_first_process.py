"""A command that is a container's first process, without an init in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_cli import DEVICE, TENANT, fresh_environment
from tests.servers import wait_for

#: The kernel ignores what its first process does not handle.
ALONE = ("unshare", "--pid", "--fork", "--kill-child")
READS_ON = ("enqueue", TENANT, DEVICE, "--export", "-", "-m", "m")


def test_a_first_process_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a namespace of processes needs root and unshare: PID 1 IS NOT TESTED")
    with subprocess.Popen(
        [*ALONE, sys.executable, "-P", "-m", "confkeep", *READS_ON],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        env=fresh_environment(),
    ) as outer:
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            wait_for(lambda: children.read_text().split(), "the first process")
            (first,) = map(int, children.read_text().split())
            wait_for(lambda: handles(first, signal.SIGTERM), "its first statement")
            os.kill(first, signal.SIGTERM)
            assert outer.wait(10) == 128 + signal.SIGTERM
        finally:
            outer.kill()


def handles(pid: int, number: int) -> bool:
    found = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & 1 << (number - 1))
