"""Every state that a power cut may leave, at every step: nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.check import problem_of
from tests.crash.power_cuts import Cut, problems_of, traced
from tests.crash.writer import SYNCS, batches
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

TENANT = "7a1e0c5e-5f0b-4a3b-9f57-0f1f4a6e2a10.git"


@dataclass(frozen=True)
class Scenario:
    """Which runs of the writer are traced, one after the other."""

    #: Whether the first batch is in the repository before the first run.
    exists: bool
    #: The failpoint at which each run is killed; None: it runs to its end.
    kills: tuple[str | None, ...] = (None,)


SCENARIOS = {
    "first commit of a tenant": Scenario(exists=False),
    "append": Scenario(exists=True),
    "retry of one killed before the ref moved": Scenario(True, ("idx-renamed", None)),
    "retry of one killed when the ref had moved": Scenario(True, ("ref-moved", None)),
    "recovery of leftovers": Scenario(
        True, ("pack-written", "pack-kept", "pack-renamed", "ref-locked", "ref-moved", None)
    ),
    "first commit retried": Scenario(False, ("repository-initialised", "ref-moved", None)),
    "first commit in a repository that was only just named": Scenario(
        False, ("repository-named", None)
    ),
}


def cuts(scenario: Scenario, tmp_path: Path, mutant: str | None = None) -> list[Cut]:
    """The states that power cuts in the runs may leave."""
    root = tmp_path / "root"
    path = root / "store" / TENANT
    root.mkdir()
    if scenario.exists:
        Writer(create_repository(path)).commit_backups(batches()[0])
    options = ["--mutant", mutant] if mutant else []
    commands = [
        strace.writer_command(path, *options, *(("--kill-at", kill) if kill else ()))
        for kill in scenario.kills
    ]
    # A repository that was not given its name yet is nobody's.
    found = traced(commands, root, nameless=("/.",))
    assert len(_ids(found[-1].acknowledged)) == 4, "the last run did not get to its end"
    return found


def _ids(acknowledged: Sequence[str]) -> set[str]:
    return {id_ for line in acknowledged for id_ in line.split()[1:]}


def judge(where: Path, acknowledged: Sequence[str]) -> str | None:
    return problem_of(where / "store" / TENANT, _ids(acknowledged))


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_state_after_a_power_cut_loses_an_acknowledged_backup(
    name: str, tmp_path: Path, fresh: Path
) -> None:
    found = cuts(SCENARIOS[name], tmp_path)
    assert list(problems_of(found, judge, fresh)) == []
    assert len(found) > 10
    print(f"{name}: {len(found)} states")


_FIRST = {"nothing of a new repository synced", "the store's folder not synced"}


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        *((m, "first commit of a tenant" if m in _FIRST else "append") for m in SYNCS),
        ("ref moved before the pack", "append"),
        ("a replay not finished", "retry of one killed when the ref had moved"),
    ],
)
def test_the_check_finds_a_writer_that_leaves_a_step_out(
    mutant: str, name: str, tmp_path: Path, fresh: Path
) -> None:
    # What a mutant does not sync shows best at the end.
    assert any(problems_of(cuts(SCENARIOS[name], tmp_path, mutant)[::-1], judge, fresh))
