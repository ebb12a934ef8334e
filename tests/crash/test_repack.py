"""A repack that is killed, wherever, beside a writer: the repository is sound and loses nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.bench.fleet import Fleet
from tests.crash import strace
from tests.crash.check import committed_ids
from tests.crash.power_cuts import Cut, problems_of, traced
from tests.crash.test_crash_states import TENANT
from tests.crash.writer import NOW_S, batches
from tests.judge import assert_sound, git
from tests.servers import wait_for
from worker.store.git import flock
from worker.store.repository import recovery
from worker.store.repository.tenant_repository import create_repository
from worker.store.upkeep.repack import repack
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Outcome
from worker.store.writing.commit import Writer

SEED = 5
BACKUPS = [backup for batch in batches() for backup in batch]

FAILPOINTS = [
    "repack-noted",
    "repack-written",
    "repack-reachable",
    "repack-midx",
    "repack-chosen",
    "repack-removed",
    "repack-pruned",
    "repack-done",
]

#: Repacks again and again, and says when each began, until it is killed.
_REPACKER = """
import os, signal, sys
from pathlib import Path
from worker.store.git import durable
from worker.store.upkeep.repack import repack
path, kill_at = Path(sys.argv[1]), sys.argv[2]
def at_failpoint(name):
    if name == "repack-noted":
        print("began", flush=True)
    if name == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
durable.on_failpoint = at_failpoint
full = True
while True:
    repack(path, full=full)
    full = not full
"""

#: Commits one backup after the other and says which are acknowledged, until it is told to end.
_WRITER = """
import sys, time
from pathlib import Path
from tests.bench.fleet import Fleet
from worker.store.writing.commit import Writer
from worker.store.writing.commit import open_for_writing
fleet = Fleet(3, seed=int(sys.argv[2]))
while True:
    with open_for_writing(Path(sys.argv[1])) as writer:
        for _ in range(5):
            backups = fleet.batch(1)
            writer.commit_backups(backups)
            print(backups[0].backup_id, flush=True)
            # As on a disk: in memory it makes thousands of packs, which only keep the judges busy.
            time.sleep(0.005)
"""


def start(
    program: str, path: Path, argument: str, stdout: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path), argument],
        env=strace.environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_git_ended(path: Path) -> None:
    """The maintenance lock is held for as long as a git of the killed repack lives."""

    def ended() -> bool:
        with flock.maintenance(path) as held:
            return held is not None

    wait_for(ended, "git to end")


def assert_mended(path: Path) -> None:
    """The next opening removes what was left, and the next repack works."""
    create_repository(path)
    assert not (path / recovery.REPACKING_NAME).exists()
    assert not list((path / "objects" / "pack").glob("*tmp*"))
    assert not list((path / "objects").rglob("*.lock"))
    assert_sound(path)
    repack(path)
    assert_sound(path)
    report = verify_repository(path)
    assert (report.outcome, report.findings) == (Outcome.CLEAN, [])


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_repack_that_is_killed_between_its_steps(failpoint: str, tmp_path: Path) -> None:
    path, fleet = tmp_path / TENANT, Fleet(3)
    repository = create_repository(path)
    backups = fleet.batch(6)
    for backup in backups:
        Writer(repository).commit_backups([backup])
    repacker = start(_REPACKER, path, failpoint)
    _out, err = repacker.communicate(timeout=60)
    assert repacker.returncode == -signal.SIGKILL, err
    assert_sound(path)
    assert committed_ids(path) == [backup.backup_id for backup in backups]
    Writer(create_repository(path)).commit_backups(fleet.batch(1))
    assert_mended(path)


@pytest.mark.parametrize("rounds", [4, pytest.param(30, marks=pytest.mark.chaos)])
def test_repacks_that_are_killed_at_random_beside_a_writer(rounds: int, tmp_path: Path) -> None:
    path = tmp_path / TENANT
    create_repository(path)
    rng = random.Random(SEED)
    told = tmp_path / "acknowledged"
    # A full pipe would stop the writer.
    with told.open("w") as stdout:
        writer = start(_WRITER, path, "1", stdout)
    try:
        wait_for(told.read_text, "the writer's first commit")
        for number in range(rounds):
            repacker = start(_REPACKER, path, "never")
            assert repacker.stdout is not None
            assert repacker.stdout.readline() == "began\n"
            time.sleep(rng.random() * 0.15)
            if number % 2:
                # Git too, as when a container ends.
                for child in psutil.Process(repacker.pid).children():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
            repacker.kill()
            _out, err = repacker.communicate(timeout=30)
            assert repacker.returncode == -signal.SIGKILL, err
            assert writer.poll() is None, writer.stderr.read() if writer.stderr else ""
            # It holds the maintenance lock for its killed parent: the next repack would be refused.
            wait_until_git_ended(path)
    finally:
        writer.kill()
        _out, err = writer.communicate(timeout=30)
    wait_until_git_ended(path)
    assert not err
    committed = committed_ids(path)
    assert len(committed) == len(set(committed))
    # The one that was being committed when the writer was killed may be there.
    acknowledged = told.read_text().split()
    assert acknowledged == committed[: len(acknowledged)]
    assert len(committed) - len(acknowledged) <= 1
    assert len(committed) > rounds
    assert_mended(path)
    Writer(create_repository(path)).commit_backups(Fleet(3, seed=2).batch(2))
    assert git(path, "rev-list", "--count", "main").strip() == str(len(committed) + 2).encode()
    assert_sound(path)


def test_recovery_does_not_wait_for_a_repack(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    Writer(create_repository(path)).commit_backups(Fleet(3).batch(1))
    with flock.maintenance(path):
        (path / "refs" / "heads" / "main.lock").touch()
        Writer(create_repository(path)).commit_backups(Fleet(3, seed=2).batch(1))
    assert_sound(path)


_ONCE = """
import sys
from pathlib import Path
from tests.crash.writer import leave_out_syncs
from worker.store.upkeep.repack import repack
if sys.argv[3]:
    leave_out_syncs(lambda path: path.endswith(sys.argv[3]))
repack(Path(sys.argv[1]), full=sys.argv[2] == "full")
"""


def cuts(kind: str, tmp_path: Path, not_synced: str = "") -> list[Cut]:
    """The states that power cuts in a repack may leave."""
    path = tmp_path / "root" / TENANT
    for number, backup in enumerate(BACKUPS):
        Writer(create_repository(path)).commit_backups([backup], now_s=NOW_S)
        if number == 1:
            # What goes later: a pack, a commit-graph, and another program's multi-pack-index.
            repack(path, full=False)
            git(path, "multi-pack-index", "write")
    command = [sys.executable, "-c", _ONCE, str(path), kind, not_synced]
    return traced([command], path.parent, nameless=())


def judge(where: Path, _acknowledged: Sequence[str]) -> str | None:
    try:
        assert committed_ids(where / TENANT) == [backup.backup_id for backup in BACKUPS]
        assert_sound(where / TENANT)
    except AssertionError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["full", "geometric"])
def test_no_state_after_a_power_cut_in_a_repack_loses_a_backup(
    kind: str, tmp_path: Path, fresh: Path
) -> None:
    found = cuts(kind, tmp_path)
    assert list(problems_of(found, judge, fresh)) == []
    assert len(found) > 20


def test_the_check_finds_a_repack_that_does_not_sync_the_folder(
    tmp_path: Path, fresh: Path
) -> None:
    assert any(problems_of(cuts("full", tmp_path, "/objects/pack"), judge, fresh))
