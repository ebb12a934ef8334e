"""Git's own maintenance, as people run it from cron, beside a writer: nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.crash import rewriter, strace
from tests.crash.check import committed_ids
from tests.crash.test_crash_states import TENANT
from tests.crash.test_two_writers import go_on, paused_at
from tests.crash.writer import DEVICES, KEEPS, NOW_S, PACK_MADE, batches
from tests.judge import GIT_ENVIRONMENT, assert_readable, backup_ids, git
from worker.store.git import durable
from worker.store.repository.tenant_repository import create_repository
from worker.store.rewriting.forget import forget_device
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_files import check_files
from worker.store.writing.commit import Writer

COMMANDS = (
    "repack -adq",
    "repack -dq --geometric=2",
    "gc -q --prune=now",
    "gc -q",
    "pack-refs --all",
    "prune --expire=now",
    "maintenance run --task=gc --quiet",
)

#: The moments from the first byte of a pack to the end of the commit.
MOMENTS = (
    *PACK_MADE,
    "ref-locked",
    "ref-moved",
    "pack-let-go",
)


def run(path: Path, command: str) -> str:
    """Run git as a person does; what it says when it fails."""
    done = subprocess.run(
        ["git", "-C", str(path), *command.split()],
        capture_output=True,
        env=GIT_ENVIRONMENT,
        check=False,
        timeout=60,
    )
    return done.stderr.decode() if done.returncode else ""


def keeps_of(path: Path) -> list[str]:
    return [name for name in os.listdir(path / "objects" / "pack") if name.endswith(".keep")]


def assert_well(path: Path) -> None:
    assert keeps_of(path) == []
    assert_readable(path)
    assert verify_repository(path).findings == []


def problem_of(path: Path, moment: str, command: str, *options: str) -> str | None:
    """What is wrong after a git command at that moment of a commit."""
    first, second = batches()
    Writer(create_repository(path)).commit_backups(second, now_s=NOW_S)
    writer = paused_at(path, moment, *options)
    try:
        said = run(path, command)
        # While `main.lock` is held, git cannot pack the refs.
        problem = said if not moment.startswith("ref-") else ""
    finally:
        code, err = go_on(writer)
    try:
        assert (problem, code) == ("", 0), err
        assert committed_ids(path) == [backup.backup_id for backup in (*second, *first)]
        assert_well(path)
    except AssertionError as error:
        return str(error)
    return None


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_full_repack_at_any_moment_of_a_commit_loses_nothing(moment: str, tmp_path: Path) -> None:
    assert problem_of(tmp_path / TENANT, moment, "repack -adq") is None


@pytest.mark.parametrize(
    ("moment", "command"),
    [
        ("pack-written", "gc -q --prune=now"),
        *(("pack-durable", command) for command in COMMANDS[1:]),
        *(
            pytest.param(moment, command, marks=pytest.mark.chaos)
            for moment in MOMENTS
            for command in COMMANDS[1:]
        ),
    ],
)
def test_git_at_any_moment_of_a_commit_loses_nothing(
    moment: str, command: str, tmp_path: Path
) -> None:
    assert problem_of(tmp_path / TENANT, moment, command) is None


@pytest.mark.parametrize(
    ("mutant", "moment"),
    list(zip(KEEPS, ("pack-durable", "idx-renamed", "ref-locked"), strict=True)),
)
def test_a_wrong_keep_is_found(mutant: str, moment: str, tmp_path: Path) -> None:
    path = tmp_path / TENANT
    assert problem_of(path, moment, "repack -adq", "--mutant", mutant) is not None


#: Commits with a pause between pack and ref, says which are acknowledged, until it is told to end.
_WRITER = """
import sys, time
from pathlib import Path
from tests.bench.fleet import Fleet
from confkeep.errors import RepositoryBusy
from worker.store.git import durable
from worker.store.writing.commit import Writer
from worker.store.rewriting.forget import forget_device
from worker.store.writing.commit import open_for_writing
durable.on_failpoint = lambda name: time.sleep(0.02) if name == "pack-durable" else None
fleet = Fleet(3)
with open_for_writing(Path(sys.argv[1])) as writer:
    while True:
        backups = fleet.batch(1)
        while True:
            try:
                writer.commit_backups(backups)
                break
            except RepositoryBusy:
                # Git holds `main.lock` while it packs the refs.
                continue
        print(backups[0].backup_id, flush=True)
"""


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.chaos)])
def test_git_in_a_loop_beside_a_writer_loses_nothing(seconds: float, tmp_path: Path) -> None:
    path = tmp_path / TENANT
    create_repository(path)
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        env=strace.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        runs, end = 0, time.monotonic() + seconds
        # Beside other work it takes longer until both have done enough.
        while (
            time.monotonic() < end
            or runs < len(COMMANDS)
            or (len(committed_ids(path)) < 12 and time.monotonic() < end + 60)
        ):
            run(path, COMMANDS[runs % len(COMMANDS)])
            runs += 1
            assert writer.poll() is None, writer.communicate()[1]
    finally:
        writer.kill()
        out, err = writer.communicate(timeout=30)
    assert not err
    acknowledged = out.split()
    assert len(acknowledged) > 10
    create_repository(path)
    # The one that was being committed when the writer was killed may be there.
    assert committed_ids(path)[: len(acknowledged)] == acknowledged
    assert len(committed_ids(path)) <= len(acknowledged) + 1
    assert_well(path)
    assert int(git(path, "rev-list", "--count", "main")) == len(committed_ids(path))


@pytest.mark.parametrize("moment", ["pack-kept", "pack-renamed", "idx-renamed", "pack-durable"])
def test_verify_does_not_alarm_about_a_living_writer(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / TENANT
    Writer(create_repository(path)).commit_backups(batches()[1], now_s=NOW_S)
    writers: list[subprocess.Popen[str]] = []

    def writer_first(*arguments: Any) -> Any:
        writers.append(paused_at(path, moment))
        return check_files(*arguments)

    monkeypatch.setattr("worker.store.upkeep.verify.check_files", writer_first)
    try:
        assert verify_repository(path).findings == []
    finally:
        code, err = go_on(writers[0])
    assert code == 0, err
    assert len(writers) == 1


@contextmanager
def git_at_every_failpoint(path: Path) -> Iterator[list[str]]:
    """Within the block git repacks at each failpoint of ours; gives their names."""
    names: list[str] = []

    def at_failpoint(name: str) -> None:
        names.append(name)
        assert run(path, "repack -adq") == ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "on_failpoint", at_failpoint)
        yield names


def test_git_beside_retention_and_its_undo_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    old_ids = rewriter.prepare(path)
    before = backup_ids(path)
    with git_at_every_failpoint(path) as names:
        rewriter.run(path, grace_s=86_400)
        assert_readable(path)
        undo_retention(create_repository(path), now_s=NOW_S + 86_400)
        assert backup_ids(path) == before
        rewriter.run(path, grace_s=0)
    assert {"pack-durable", "old-kept", "ref-moved", "pruned"} <= set(names)
    assert len(backup_ids(path)) == 6
    assert_well(path)
    assert rewriter.problem_of(path, old_ids, least=1) is None


def test_git_beside_an_erasure_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    rewriter.prepare(path)
    # With a commit of its own, so that erasing writes a pack for the branch alone.
    own = git(path, "commit-tree", "main^{tree}", "-p", "main~3", "-m", "mine").decode().strip()
    git(path, "branch", "mine", own)
    with git_at_every_failpoint(path) as names:
        forget_device(path, DEVICES[0], now_s=NOW_S)
    assert {"pack-durable", "branches-moved", "pruned"} <= set(names)
    assert_well(path)
    kept = [b.backup_id for b in rewriter.given() if b.device_id != DEVICES[0]]
    assert backup_ids(path) == kept
