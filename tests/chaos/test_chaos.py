"""Whatever is killed, cut, paused or full: every accepted backup once, in order, with its receipt.

The short form. `make chaos` runs the long one, and times recoveries over more rounds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import recovery
from tests.chaos.broker import REFUSALS
from tests.chaos.faults import FAULTS, HOOK_FAULTS
from tests.chaos.machine import Machine
from tests.chaos.report import Report
from tests.chaos.run import run_round

#: Any seed must do; this one makes a failure repeatable, as far as processes are.
_SEED = 20_261
#: Faults that come too seldom in a few seconds of all: each kind has rounds of its own.
_ALONE = {
    "git": {"git"},
    "torn file": {"torn file", "worker"},
    "refusals": set(REFUSALS),
    "hostile": {"message", "garbage"},
    "hooks": HOOK_FAULTS | {"worker"},
    "scale": {"scale", "worker", "pool child"},
}


@pytest.mark.parametrize("staging", ["redis", pytest.param("volume", marks=pytest.mark.chaos)])
def test_faults_at_random_lose_double_and_reorder_nothing(tmp_path: Path, staging: str) -> None:
    machine = Machine(tmp_path, _SEED)
    report = Report()
    with machine.running():
        run_round(
            machine,
            tmp_path / staging,
            report,
            seconds=11,
            kills=13,
            staging=staging,
            faults=FAULTS.difference(*_ALONE.values()) | {"worker"},
        )
    print(report)
    assert not report.complaints, report
    assert report.kills >= 10
    assert report.accepted > 100
    if not machine.has_disk:
        pytest.skip("all but the full disk, which needs root to mount a tmpfs")


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", _ALONE)
def test_a_kind_of_fault_alone_loses_doubles_and_reorders_nothing(
    tmp_path: Path, kind: str
) -> None:
    machine = Machine(tmp_path, _SEED)
    report = Report()
    with machine.running():
        for staging in ("redis", "volume"):
            run_round(
                machine,
                tmp_path / staging,
                report,
                seconds=20,
                kills=12,
                staging=staging,
                faults=_ALONE[kind],
            )
    print(report)
    assert not report.complaints, report
    assert report.accepted > 100


@pytest.mark.chaos
def test_a_worker_that_settles_before_it_commits_is_caught(tmp_path: Path) -> None:
    machine = Machine(tmp_path, _SEED, options=("mutant=settle-first",))
    report = Report()
    with machine.running():
        # A kill must strike between two steps: on a busy machine one round may have none that does.
        for number in range(3):
            folder = tmp_path / f"round {number}"
            run_round(
                machine,
                folder,
                report,
                seconds=8,
                kills=16,
                staging="redis",
                faults={"pool child", "worker"},
            )
            if any("lost: " in complaint for complaint in report.complaints):
                return
    pytest.fail(f"was not caught: {report}")


@pytest.mark.parametrize("victim", ["main", pytest.param("child", marks=pytest.mark.chaos)])
def test_a_killed_workers_tenant_goes_on_in_seconds(tmp_path: Path, victim: str) -> None:
    seconds = recovery.killed_in_a_batch(tmp_path / "pair", "prefork", victim, "before")
    print(f"{seconds:.1f} s")
    assert seconds <= recovery.MOST_S


def test_a_restarted_brokers_inboxes_go_on_in_seconds(tmp_path: Path) -> None:
    seconds = recovery.broker_restarted_under_busy_workers(tmp_path / "pair", "prefork")
    print(f"{seconds:.1f} s")
    assert seconds <= recovery.MOST_S
