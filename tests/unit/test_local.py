"""Children of one machine's commands: they end with their parent, and start as if it were their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.servers import wait_for
from worker.process.local import Child, EmbeddedServer
from worker.process.tied import command_tied_to_this_process

#: A parent with a thread that dies by SIGSEGV as soon as its child runs.
_PARENT = """
import os, signal, sys, threading
from pathlib import Path
from worker.process.local import Child, EmbeddedServer

threading.Thread(target=threading.Event().wait, daemon=True).start()
child = Child(["sleep", "600"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGSEGV)
"""


def has_ended(process: psutil.Process) -> bool:
    """Whether it has, also where nobody asks for an orphan's status."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_child_ends_when_its_parent_crashes(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_for(lambda: child.name() == "sleep", "the child to become its command")
    parent.communicate()
    assert parent.returncode == -signal.SIGSEGV
    wait_for(lambda: has_ended(child), "the child to end")


def test_a_child_of_a_parent_that_is_gone_by_then_does_not_start(tmp_path: Path) -> None:
    command = command_tied_to_this_process(["touch", str(tmp_path / "started")])
    command[command.index(str(os.getpid()))] = "1000000000"
    assert subprocess.run(command, check=False).returncode == 1
    assert not (tmp_path / "started").exists()


def test_a_child_starts_with_the_signals_that_any_program_starts_with(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child(["grep", "-h", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"], log=log)
    assert child.process.wait(30) == 0
    plain = subprocess.run(
        ["grep", "-h", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert log.read_text() == plain.stdout


def test_a_descriptor_that_is_passed_on_stays_open(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = Child(["sh", "-c", f"echo held > /proc/self/fd/{write}"], pass_fds=(write,))
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "held\n"
    assert child.process.wait(30) == 0


def test_the_socket_keeps_its_path_as_long_as_the_data(tmp_path: Path) -> None:
    paths = []
    for data in ("one", "one", "other"):
        with EmbeddedServer(tmp_path / data) as server:
            paths.append(server.socket)
            assert server.socket.is_socket()
        assert not paths[-1].parent.exists()
    assert paths[0] == paths[1] != paths[2]


@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_socket_is_never_put_where_others_may_enter(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = EmbeddedServer(tmp_path / "data").socket.parent
    first.rmdir()
    if what == "folder":
        first.mkdir()
        first.chmod(0o755)
    else:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        first.symlink_to(tmp_path / "elsewhere")

    found = EmbeddedServer(tmp_path / "data").socket.parent

    assert found != first
    assert found.stat().st_mode & 0o777 == 0o700
