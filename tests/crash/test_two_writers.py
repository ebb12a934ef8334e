"""Writers of one tenant whose Redis lock expired: the compare-and-swap of `main` decides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confkeep.errors import RepositoryBusy
from tests.crash import strace
from tests.crash.check import committed_ids, problem_of
from tests.crash.test_crash_states import TENANT
from tests.crash.writer import batches
from tests.judge import assert_readable, git
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

#: Commits of each writer to one repository. The judges open all packs for each object, so many repositories are
#: cheaper than a large one.
_EACH = 50


@pytest.mark.parametrize("repositories", [3, pytest.param(10, marks=pytest.mark.chaos)])
def test_two_writers_lose_nothing_in_hundreds_of_rounds(repositories: int, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) / TENANT for number in range(repositories)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.crash.rival", str(number), str(_EACH)],
            env=strace.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    busy = 0
    for path in paths:
        create_repository(path)
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(f"{path}\n")
            writer.stdin.flush()
        # Both are done with this one before they begin the next: else they meet no more.
        for writer in writers:
            assert writer.stdout is not None
            line = writer.stdout.readline()
            assert line, writer.communicate(timeout=10)[1]
            busy += int(line)
    for writer in writers:
        _out, err = writer.communicate(timeout=100)
        assert writer.returncode == 0, err
    assert busy > 0, "the two never met"
    for path in paths:
        _assert_nothing_lost(path)


def _assert_nothing_lost(path: Path) -> None:
    messages = git(path, "log", "--reverse", "--format=%s", "main").decode().split("\n")[:-1]
    assert len(messages) == 2 * _EACH
    for number in range(2):
        mine = [message for message in messages if message.startswith(f"{number} ")]
        assert mine == [f"{number} {commit}" for commit in range(_EACH)]
    # No commit took the other's device away or put it back.
    changed = git(path, "log", "--reverse", "--name-only", "--format=", "main").decode().split()
    assert len(changed) == 2 * _EACH
    assert_readable(path)


def paused_at(path: Path, failpoint: str, *options: str) -> subprocess.Popen[str]:
    """A writer that stopped itself in the middle of a commit; `options` are those of the writer."""
    program = (
        "import os, signal, sys\n"
        "from worker.store.git import durable\n"
        "from tests.crash import writer\n"
        "def pause(name):\n"
        f"    if name == {failpoint!r}:\n"
        "        durable.on_failpoint = None\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "durable.on_failpoint = pause\n"
        "sys.argv += ['--batches', '1']\n"
        "sys.exit(writer.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path), *options],
        env=strace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return process


def go_on(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Let it end; its exit code and what it said."""
    process.send_signal(signal.SIGCONT)
    _out, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("failpoint", ["pack-written", "pack-durable"])
def test_a_paused_writer_blocks_nobody_and_overwrites_nobody(
    failpoint: str, tmp_path: Path
) -> None:
    path = tmp_path / TENANT
    create_repository(path)
    paused = paused_at(path, failpoint)
    try:
        other = batches()[1]
        Writer(create_repository(path)).commit_backups(other)
    finally:
        code, err = go_on(paused)
    assert code == RepositoryBusy.exit_code, err
    assert not list(path.rglob("*.keep"))
    assert committed_ids(path) == [backup.backup_id for backup in other]
    assert_readable(path)
    Writer(create_repository(path)).commit_backups(batches()[0])
    assert len(committed_ids(path)) == 4


def test_a_writer_paused_at_the_ref_keeps_its_lock(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    create_repository(path)
    first, second = batches()
    paused = paused_at(path, "ref-locked")
    try:
        with pytest.raises(RepositoryBusy):
            Writer(create_repository(path)).commit_backups(second)
    finally:
        code, err = go_on(paused)
    assert code == 0, err
    assert committed_ids(path) == [backup.backup_id for backup in first]
    Writer(create_repository(path)).commit_backups(second)
    assert problem_of(path, [backup.backup_id for backup in (*first, *second)]) is None
