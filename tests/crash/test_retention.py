"""A rewrite by retention that is killed, or whose machine loses power, at every step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.crash import rewriter, strace
from tests.crash.power_cuts import problems_of, traced
from tests.crash.test_crash_states import TENANT
from tests.crash.writer import NOW_S, PACK_MADE, batches
from tests.judge import backup_ids
from worker.store.git import flock
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.writing.commit import Writer

REWRITE = (
    *PACK_MADE,
    "map-written",
    "old-kept",
    "ref-locked",
    "ref-moved",
    "rewritten",
    "map-settled",
    "pack-let-go",
)
PRUNE = ("pruned-pack-durable", "pack-pruned", "pruned")


def command(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.crash.rewriter", str(path), *options]


def kill(path: Path, failpoint: str, *options: str) -> None:
    done = subprocess.run(
        command(path, "--kill-at", failpoint, *options),
        env=strace.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, f"the run did not come to {failpoint}: {done.stderr}"


@pytest.mark.parametrize("failpoint", [*REWRITE, *PRUNE])
def test_a_kill_at_any_failpoint_loses_no_kept_version(failpoint: str, tmp_path: Path) -> None:
    path = tmp_path / TENANT
    old_ids = rewriter.prepare(path)
    kill(path, failpoint, "--grace", "0" if failpoint in PRUNE else "86400")
    assert rewriter.problem_of(path, old_ids) is None


@pytest.mark.parametrize("failpoint", ["map-written", "old-kept", "ref-moved", "rewritten"])
def test_commits_beside_a_pending_map_are_not_lost(failpoint: str, tmp_path: Path) -> None:
    path = tmp_path / TENANT
    old_ids = rewriter.prepare(path)
    kill(path, failpoint)
    later = batches(rewriter.BATCHES + 1)[-1]
    with flock.shared(path):
        # A writer lives, so nobody may settle the map; commits go on all the same.
        repository = create_repository(path)
        assert (path / "confkeep.rewritten-pending").exists()
        answers = Writer(repository).commit_backups([*later, *rewriter.given()], now_s=NOW_S)
    assert [answer.replayed for answer in answers] == [False] * 2 + [True] * 8
    moved = failpoint in ("ref-moved", "rewritten")
    assert len(backup_ids(path)) == 2 + (6 if moved else 8)
    assert rewriter.problem_of(path, old_ids, least=moved) is None


class Run:
    """A traced run of retention, on a history that it rewrote before if it is `again`."""

    def __init__(self, tmp_path: Path, mutant: str | None = None, *, again: bool = False) -> None:
        path = tmp_path / "root" / "store" / TENANT
        self._old_ids, self._before = rewriter.prepare(path), int(again)
        if again:
            rewriter.run(path, grace_s=86_400)
            Writer(create_repository(path)).commit_backups(
                batches(rewriter.BATCHES + 1)[-1], now_s=NOW_S
            )
        options = ["--mutant", mutant] if mutant else []
        self.cuts = traced([command(path, *options)], tmp_path / "root", ("/tmp_", "/.tmp_"))
        assert len(self.cuts[-1].acknowledged) == 1

    def problems(self, fresh: Path) -> Iterator[str]:
        """What is wrong with each state; the newest first, in which shows best what was not synced."""
        return problems_of(self.cuts[::-1], self._judge, fresh)

    def _judge(self, where: Path, acknowledged: Sequence[str]) -> str | None:
        rewrites = self._before + len(acknowledged)
        return rewriter.problem_of(where / "store" / TENANT, self._old_ids, rewrites)


@pytest.mark.parametrize("again", [False, True])
def test_no_state_after_a_power_cut_loses_a_kept_version(
    tmp_path: Path, fresh: Path, again: bool
) -> None:
    run = Run(tmp_path, again=again)
    assert list(run.problems(fresh)) == []
    assert len(run.cuts) > 10
    print(f"{len(run.cuts)} states")


@pytest.mark.parametrize("mutant", [*rewriter.SYNCS, "ref moved before the map"])
def test_the_check_finds_a_rewrite_that_leaves_a_step_out(
    mutant: str, tmp_path: Path, fresh: Path
) -> None:
    assert any(Run(tmp_path, mutant).problems(fresh))


def test_the_old_history_is_there_until_the_grace_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    old_ids = rewriter.prepare(path)
    rewriter.run(path, grace_s=3600)
    assert old_ids[-1] in open_repository(path).git
    rewriter.run(path, grace_s=3600)
    assert old_ids[-1] not in open_repository(path).git
