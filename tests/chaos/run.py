"""A chaos run: faults at random moments by a seed, then a judgement on everything that was accepted."""

from __future__ import annotations

import heapq
import json
import random
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.history import Commit, History, Record, complaints
from tests.chaos.machine import LAYOUTS, PAUSE_S, Machine
from tests.judge import assert_sound, backup_ids, git
from tests.servers import LASTING_KEYS, wait_for
from worker import keys, tidy
from worker.settings import load_settings
from worker.store.repository import open_for_writing
from worker.store.verify import verify_repository

_TENANTS = 6
_TICK_S = 0.02
#: Seconds until a kill is tried again that found nobody.
_AGAIN_S = 0.25
#: How often each fault comes, against the others; and those that are no kills, against the kills.
_KILLS = {"pool child": 11, "worker": 4, "broker": 4, "producer": 1}
_OTHERS = {"cut": 4, "stall": 2, "delay": 2, "pause": 3, "disk full": 2, "shards": 2}
_OTHERS_PER_KILL = 0.35


@dataclass
class Report:
    """What a run did and found."""

    faults: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    unknown: int = 0
    commits: int = 0
    #: Seconds from the end of the faults until nothing waited any more, for each round.
    drained_s: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes that were killed."""
        return sum(self.faults[f"kill {what}"] for what in _KILLS)

    def __str__(self) -> str:
        faults = ", ".join(f"{number} x {what}" for what, number in sorted(self.faults.items()))
        drained = ", ".join(f"{seconds:.1f}" for seconds in self.drained_s)
        lines = [
            f"{self.kills} kills; {faults}",
            (
                f"{self.accepted} backups accepted, {self.unknown} with an unknown outcome, "
                f"{self.commits} committed"
            ),
            f"seconds until all was committed after the faults: {drained}",
            *self.complaints,
            f"{len(self.complaints)} complaints",
        ]
        return "\n".join(lines)


def run_round(
    machine: Machine, folder: Path, report: Report, *, seconds: float, kills: int, staging: str
) -> None:
    """Let a producer and the workers live with faults, calm down, and judge all that came."""
    folder.mkdir()
    record = folder / "record"
    tenants = [
        str(uuid.UUID(int=machine.random.getrandbits(128), version=4)) for _ in range(_TENANTS)
    ]
    machine.variables["CONFKEEP_STAGING"] = staging
    with machine.client() as client:

        def all_swept() -> bool:
            # Some ended only now, of what the last round did to them.
            machine.supervise()
            return bool(client.hlen(keys.WORKERS) == len(machine.slots))

        wait_for(all_swept, "the workers to start")
    machine.start_producer(record, tenants)
    _Faults(machine, report).play(seconds, kills)
    calm = time.monotonic()
    machine.calm_down()
    try:
        machine.wait_until_drained()
    except AssertionError as error:
        report.complaints.append(str(error))
    report.drained_s.append(time.monotonic() - calm)
    _judge(machine, record, tenants, report)
    report.complaints += machine.unexpected
    machine.unexpected.clear()
    for tenant in tenants:
        for path in machine.store.glob(f"{tenant}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with machine.client() as client:
        client.delete(*client.keys("celery-task-meta-*"))


class _Faults:
    """Plays faults one after the other, and ends those that last."""

    def __init__(self, machine: Machine, report: Report) -> None:
        self._machine = machine
        self._report = report
        self._random: random.Random = machine.random
        #: When to end a fault, and how.
        self._ends: list[tuple[float, Callable[[], object]]] = []

    def play(self, seconds: float, kills: int) -> None:
        """Kill so often in that time, evenly but for chance, with other faults between."""
        start = time.monotonic()
        plan = list(self._plan(seconds, kills))
        heapq.heapify(plan)
        while plan:
            at_s, kind, what = heapq.heappop(plan)
            while time.monotonic() < start + at_s:
                self._end_what_is_over()
                self._machine.supervise()
                time.sleep(_TICK_S)
            if self._begin(kind, what):
                self._report.faults[f"{kind} {what}".strip()] += 1
            elif kind == "kill":
                # Nobody is there to be killed: the next one who starts.
                heapq.heappush(plan, (at_s + _AGAIN_S, kind, what))
        for _, end in self._ends:
            end()

    def _plan(self, seconds: float, kills: int) -> Iterator[tuple[float, str, str]]:
        for kind, number, weights in (
            ("kill", kills, _KILLS),
            ("", int(kills * _OTHERS_PER_KILL), _OTHERS),
        ):
            for what in self._random.choices(list(weights), list(weights.values()), k=number):
                yield self._random.uniform(0, seconds), kind, what

    def _end_what_is_over(self) -> None:
        now = time.monotonic()
        for fault in [fault for fault in self._ends if fault[0] <= now]:
            self._ends.remove(fault)
            fault[1]()

    def _later(self, seconds: float, end: Callable[[], object]) -> None:
        self._ends.append((time.monotonic() + seconds, end))

    def _begin(self, kind: str, what: str) -> bool:
        machine, r = self._machine, self._random
        proxy = r.choice([machine.proxy, machine.own])
        match what:
            case "pool child":
                # Workers that just start have no children yet: then the next best.
                return machine.kill_pool_child() or machine.kill_worker()
            case "worker":
                return machine.kill_worker()
            case "broker":
                machine.kill_broker(away_s=r.choice([0.0, 0.2, 1.5]))
            case "producer":
                return machine.kill_producer()
            case "cut":
                proxy.cut()
            case "stall":
                proxy.stall()
            case "delay":
                proxy.delay(r.uniform(0.005, 0.1))
                self._later(2, lambda: proxy.delay(0))
            case "pause":
                if not machine.pause_worker():
                    return False
                self._later(PAUSE_S, machine.resume)
            case "disk full":
                if not machine.fill_disk():
                    return False
                self._later(r.uniform(0.5, 4), machine.free_disk)
            case "shards":
                in_order = r.random() < 0.5
                machine.relayout(
                    r.choice(LAYOUTS),
                    lambda child: child.ask_to_end() if in_order else child.process.kill(),
                )
        return True


def _judge(machine: Machine, record: Path, tenants: list[str], report: Report) -> None:
    accepted: dict[str, list[str]] = {tenant: [] for tenant in tenants}
    sent: dict[str, set[str]] = {tenant: set() for tenant in tenants}
    for line in record.read_text().splitlines():
        what, tenant, ids = json.loads(line)
        if what == "sent":
            sent[tenant].update(ids)
        else:
            accepted[tenant] += ids
    committed: set[str] = set()
    unknown: set[str] = set()
    with machine.client() as client:
        for tenant in tenants:
            path = machine.store / f"{tenant}.git"
            commits = _commits(path)
            promised = list(dict.fromkeys(accepted[tenant]))
            all_ids = sorted(sent[tenant])
            found: Any = client.mget([keys.result(i) for i in all_ids]) if all_ids else []
            records = {
                i: _record(text) for i, text in zip(all_ids, found, strict=True) if text is not None
            }
            history = History(tenant, promised, sent[tenant], commits, records)
            report.complaints += complaints(history)
            report.accepted += len(promised)
            report.commits += len(commits)
            committed.update(commit.backup_id for commit in commits)
            unknown |= sent[tenant] - set(promised)
            if path.exists():
                report.complaints += _unsound(path)
        report.unknown += len(unknown)
        report.complaints += _foreign_keys(client, committed)
        # A worker that was killed before it discarded files, and a producer before their backup was
        # accepted, leave files to the hourly tidy, which looks for those older than a day.
        staging = machine.path / "staging"
        tidy.tidy(client, load_settings(staging_path=staging), abandoned_s=0)
    left = [path.name for path in staging.rglob("*") if path.is_file()]
    if left:
        report.complaints.append(f"left on the volume: {', '.join(left[:5])} ({len(left)})")


def _unsound(path: Path) -> list[str]:
    """What git and `verify` say, once the next writer has removed what killed ones left."""
    with open_for_writing(path):
        pass
    found = [f"{path.name}: {f.kind} {f.place}: {f.text}" for f in verify_repository(path).findings]
    try:
        assert_sound(path)
    except AssertionError as error:
        found.append(str(error))
    return found


def _commits(path: Path) -> list[Commit]:
    if not path.exists():
        return []
    shas = git(path, "log", "--reverse", "--first-parent", "--format=%H", "main").decode().split()
    return [Commit(sha, i) for sha, i in zip(shas, backup_ids(path), strict=True)]


def _record(text: bytes) -> Record:
    meta = json.loads(text)
    result = meta["result"]
    sha = result.get("sha") if isinstance(result, dict) else None
    return Record(meta["status"], sha)


def _foreign_keys(client: Any, committed: set[str]) -> list[str]:
    """What is in Redis and should not be; flags and locks get the seconds that they live."""
    tidy.drop_foreign_queues(client, load_settings(shards=LAYOUTS[0][0]))
    expected = {*LASTING_KEYS, *map(keys.result, committed)}

    def foreign() -> list[str]:
        names = [name.decode() for name in client.keys("*")]
        return sorted(
            n
            for n in names
            if n not in expected
            and not n.startswith("_kombu.")
            # The question for a repack that went with a killed worker: asked again when it expires.
            and not (n.startswith(keys.repack("")) and client.ttl(n) > 0)
        )

    try:
        wait_for(lambda: not foreign(), "foreign keys to go", 5)
    except AssertionError:
        return [f"left in Redis: {', '.join(foreign()[:8])} ({len(foreign())})"]
    return []
