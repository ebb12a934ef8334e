"""The parts of a chaos run do what its report says of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import redis

from confkeep.broker import keys
from tests.chaos import hostile
from tests.chaos.faults import FAULTS, Faults
from tests.chaos.machine import Machine
from tests.chaos.maintenance import COMMANDS, Maintenance
from tests.chaos.report import Report
from tests.chaos.table import table
from tests.judge import assert_sound, git
from tests.servers import wait_for
from worker.process.local import EmbeddedServer


def test_gits_commands_run_one_after_the_other_and_can_be_killed(tmp_path: Path) -> None:
    path = tmp_path / "tenant.git"
    git(tmp_path, "init", "-q", "--bare", str(path))
    blob = git(path, "hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    git(path, "tag", "kept", blob)
    maintenance = Maintenance(tmp_path, tmp_path / "log", random.Random(1))

    every = {f"git {command}" for command in COMMANDS}
    with maintenance.beside(["missing", "tenant"]):
        wait_for(lambda: set(maintenance.started) == every, "each command to be started", 60)
    assert not maintenance.kill(), "none runs any more"
    assert_sound(path)
    assert git(path, "cat-file", "blob", "kept") == b"x"
    with maintenance.beside(["tenant"]):
        wait_for(maintenance.kill, "a command to be killed", 60)


@pytest.mark.parametrize("seed", range(6))
def test_garbage_goes_as_it_came(tmp_path: Path, seed: int) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        redis.Redis(unix_socket_path=str(server.socket), socket_timeout=10) as client,
    ):
        client.hset(keys.WORKERS, "w", "a report")
        garbage = hostile.Garbage(client, random.Random(seed))
        assert len(client.keys("*")) == 5
        garbage.remove(client)
        assert client.keys("*") == [keys.WORKERS.encode()]
        assert client.hkeys(keys.WORKERS) == [b"w"]


@pytest.mark.parametrize("only", [{"git"}, {"torn file", "oom"}, set(FAULTS)])
def test_a_plan_has_the_faults_that_were_asked_for(tmp_path: Path, only: set[str]) -> None:
    faults = Faults(Machine(tmp_path, 1), Report(), [], only)
    planned = list(faults._plan(seconds=60, kills=2_000))
    assert {what for _, _, what in planned} == only
    assert all(0 <= at_s <= 60 for at_s, _, _ in planned)


def test_every_fault_and_every_complaint_is_in_the_table() -> None:
    report = Report(accepted=70_001, unknown=70_002, commits=70_003, drained_s=[2.0, 1.0])
    shown = {}
    for number, what in enumerate(sorted(FAULTS), 80_001):
        kind = "kill " if what in {"pool child", "worker", "broker", "producer"} else ""
        kind = "kill " if what in {"torn file", "git", "sender", "receiver"} else kind
        report.faults[kind + what] = number
        shown[what] = f"{number:,}"
    text = table(report, 4711, 600)
    for what, figure in shown.items():
        assert figure in text, what
    for words in ("4711", "70,001", "70,002", "70,003", "1.0 to 2.0 s", "in 10.0 minutes", "none"):
        assert words in text
    assert {line.count(" | ") for line in text.splitlines()} == {1}
    report.complaints.append("lost")
    assert "| 1 complaints |" in table(report, 4711, 600)
