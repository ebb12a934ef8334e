"""Power cuts and kills, inside git and libgit2 too, while a repository is kept up beside its commits.

A kill of all processes leaves what was done until then: of every call these states are among those of the
power cuts. Faults by strace end single processes, or let single calls fail, so that the others go on.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from confkeep.errors import GitUnavailable, MaintenanceFailed, RepositoryDamaged, StoreUnavailable
from tests.crash import strace, upkeep
from tests.crash.power_cuts import Cut, problems_of, sample, traced
from tests.crash.test_crash_states import TENANT

#: States of each scenario that are judged beside those in which all is undone, all in the long form;
#: and of how many one is followed by retention and a prune.
_MOST = 12
_THOROUGH = 7


@dataclass(frozen=True)
class Scenario:
    """A step, and what came before it."""

    step: str
    #: A step that was killed at a failpoint before.
    killed: tuple[str, str] | None = None
    #: Whether retention had rewritten the history, with commits on top.
    rewritten: bool = False


SCENARIOS = {
    "prune": Scenario("prune", rewritten=True),
    "erasure": Scenario("forget"),
    "retention": Scenario("retention"),
    "undo": Scenario("undo", rewritten=True),
    "a map that retention left": Scenario("open", killed=("retention", "ref-moved")),
    "a map that an erasure left": Scenario("open", killed=("forget", "ref-moved")),
    "what is found": Scenario("find", killed=("commit", "ref-moved")),
    "unknown outcome": Scenario("unknown outcome"),
    "a tenant's own rules": Scenario("rules"),
}


def command(path: Path, step: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.crash.upkeep", str(path), step, *options]


class Run:
    """A scenario that was traced; its states can be judged."""

    def __init__(
        self, scenario: Scenario, tmp_path: Path, mutant: str | None = None, kill_at: str = ""
    ) -> None:
        path = tmp_path / "root" / "store" / TENANT
        self._step = scenario.step
        self._old_ids = upkeep.prepare(path, rewritten=scenario.rewritten)
        options = ["--mutant", mutant] if mutant else []
        commands = []
        if scenario.killed is not None:
            step, failpoint = scenario.killed
            commands.append(command(path, step, "--kill-at", failpoint, *options))
        options += ["--kill-at", kill_at] if kill_at else []
        commands.append(command(path, scenario.step, *options))
        self.cuts = traced(commands, tmp_path / "root")
        assert kill_at or len(self.cuts[-1].acknowledged) == 1, "the step did not get to its end"

    def problems(
        self, cuts: list[Cut], fresh: Path, *, thorough: int = 1, most: int = 0
    ) -> list[str]:
        """What is wrong; end when `most` were found (0: never)."""
        judged, found = 0, []

        def judge(where: Path, acknowledged: Sequence[str]) -> str | None:
            nonlocal judged
            judged += 1
            path, told = where / "store" / TENANT, len(acknowledged)
            more = thorough > 0 and judged % thorough == 0
            return upkeep.problem_of(path, self._old_ids, self._step, told, thorough=more)

        for problem in problems_of(cuts, judge, fresh):
            found.append(problem)
            if len(found) == most:
                break
        return found


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.chaos)], ids=["some", "all"]
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_state_after_a_power_cut_or_a_kill_loses_or_doubles_anything(
    name: str, every: bool, tmp_path: Path, fresh: Path
) -> None:
    run = Run(SCENARIOS[name], tmp_path)
    cuts = run.cuts if every else sample(run.cuts, _MOST)
    assert run.problems(cuts, fresh, thorough=1 if every else _THOROUGH) == []
    assert len(run.cuts) >= 3
    print(f"{name}: {len(cuts)} of {len(run.cuts)} states")


@pytest.mark.parametrize("mutant", upkeep.MUTANTS)
def test_the_check_finds_a_step_that_leaves_a_sync_out(
    mutant: str, tmp_path: Path, fresh: Path
) -> None:
    scenario, _leave_out, kill_at = upkeep.MUTANTS[mutant]
    run = Run(SCENARIOS[scenario], tmp_path, mutant, kill_at)
    # What is not synced shows best at the end.
    cuts = [cut for cut in run.cuts[::-1] if not cut.kill]
    assert run.problems(cuts, fresh, thorough=0, most=1)


# Single processes that end, single calls that fail

_FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")
_CALLS = ("write", "pwrite64", "writev", "fsync", "rename", "link", "unlink", "mkdir", "rmdir")
#: Strace counts the calls of each process by themselves: the fault comes to each that gets so far.
_FAULTED = ("prune", "erasure", "retention", "undo")


def faults_of(path: Path, scenario: Scenario, log: Path) -> list[tuple[str, int, str]]:
    """Each call in the store by its number in its process, with each fault."""
    counted: Counter[tuple[int, str]] = Counter()
    found = set()
    for call in strace.trace([command(path, scenario.step)], log):
        counted[call.pid, call.name] += 1
        if call.name in _CALLS and any(TENANT in path for path in call.touched()):
            found.add((call.name, counted[call.pid, call.name]))
    return [(*place, fault) for place in sorted(found) for fault in _FAULTS]


@pytest.mark.parametrize(
    "most", [2, pytest.param(None, marks=pytest.mark.chaos)], ids=["some", "all"]
)
@pytest.mark.parametrize("name", _FAULTED)
def test_no_fault_at_a_call_of_one_process_loses_or_doubles_anything(
    name: str, most: int | None, tmp_path: Path
) -> None:
    strace.need_strace()
    scenario, first = SCENARIOS[name], tmp_path / "first" / TENANT
    old_ids = upkeep.prepare(first, rewritten=scenario.rewritten)
    traced = tmp_path / "traced" / TENANT
    shutil.copytree(first, traced)
    faults = faults_of(traced, scenario, tmp_path / "log")
    assert len(faults) > 30
    chosen = faults if most is None else random.Random(name).sample(faults, most)
    # GitUnavailable: the process that met the fault was the git that is asked for its version.
    errors = (MaintenanceFailed, StoreUnavailable, RepositoryDamaged, GitUnavailable)
    expected = {0, *(kind.exit_code for kind in errors)}
    for number, (call, at, fault) in enumerate(chosen):
        path = tmp_path / str(number) / TENANT
        shutil.copytree(first, path)
        log = tmp_path / "fault"
        done = strace.run_with_fault(command(path, scenario.step), call, at, fault, log)
        where = f"{fault} at {call} {at}: {done.stderr[-300:]}"
        killed = done.returncode in (-9, 137)
        assert killed or done.returncode in expected, where
        acknowledged = done.stdout.count("ACK\n")
        problem = upkeep.problem_of(path, old_ids, scenario.step, acknowledged)
        assert problem is None, f"{where}: {problem}"
        shutil.rmtree(path)
