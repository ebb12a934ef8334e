"""Every state that a power cut may leave, at every step: nothing acknowledged is lost."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash import strace
from tests.crash.check import problem_of
from tests.crash.posix import Disk, State, digest_of, materialise
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


def bad_states(
    scenario: Scenario, tmp_path: Path, fresh: Path, mutant: str | None = None
) -> tuple[int, list[str]]:
    """How many states there are, and what is wrong with the bad ones; of a mutant's with one of them."""
    strace.need_strace()
    root = tmp_path / "root"
    store = root / "store"
    root.mkdir()
    if scenario.exists:
        Writer(create_repository(store / TENANT)).commit_backups(batches()[0])
    # The index is derived, and SQLite stores through memory maps that no log shows.
    disk = Disk(root, ignored=["confkeep.index"])
    options = ["--mutant", mutant] if mutant else []
    commands = [
        strace.writer_command(store / TENANT, *options, *(("--kill-at", kill) if kill else ()))
        for kill in scenario.kills
    ]
    calls = strace.trace(commands, tmp_path / "strace.log")
    chance = random.Random(1)
    acknowledged: set[str] = set()
    seen: set[bytes] = set()
    states: list[tuple[str, State, set[str]]] = []
    for number, call in enumerate(calls):
        if call.name == "write" and call.strings[0].startswith(b"ACK "):
            acknowledged = acknowledged.union(call.strings[0].decode().split()[1:])
        elif not disk.apply(call):
            continue
        for state in disk.states(chance):
            # A repository that was not given its name yet is nobody's.
            state = {p: data for p, data in state.items() if "/." not in p}
            digest = digest_of(state) + bytes([len(acknowledged)])
            if digest not in seen:
                seen.add(digest)
                states.append((f"call {number} ({call.name})", state, acknowledged))
    assert len(acknowledged) == 4, "the last run did not get to its end"
    problems: list[str] = []
    # What a mutant does not sync shows best at the end.
    for number, (after, state, promised) in enumerate(reversed(states) if mutant else states):
        where = fresh / str(number)
        materialise(state, where)
        problem = problem_of(where / "store" / TENANT, promised)
        shutil.rmtree(where)
        if problem is not None:
            problems.append(f"after {after}: {problem}")
            if mutant:
                break
    return len(states), problems


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_state_after_a_power_cut_loses_an_acknowledged_backup(
    name: str, tmp_path: Path, fresh: Path
) -> None:
    count, problems = bad_states(SCENARIOS[name], tmp_path, fresh)
    assert problems == []
    assert count > 10
    print(f"{name}: {count} states")


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
    _count, problems = bad_states(SCENARIOS[name], tmp_path, fresh, mutant)
    assert problems
