"""Plays faults at random moments by a seed, and ends those that last."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext

from tests.chaos import hostile
from tests.chaos.broker import REFUSALS
from tests.chaos.machine import LAYOUTS, PAUSE_S, Machine
from tests.chaos.report import Report
from worker.process.local import Child

_TICK_S = 0.02
#: Seconds until a kill is tried again that found nobody.
_AGAIN_S = 0.25
#: How often each fault comes, against the others; and those that are no kills, against the kills.
_KILLS = {"pool child": 22, "worker": 8, "broker": 6, "torn file": 3, "producer": 2, "git": 2}
_KILLS |= {"sender": 6, "receiver": 4}
#: With one of these, a round has senders and receivers of webhooks.
HOOK_FAULTS = frozenset({"sender", "receiver"})
_OTHERS = {"cut": 4, "stall": 2, "delay": 2, "pause": 3, "disk full": 2, "shards": 2, "scale": 2}
_OTHERS |= {**dict.fromkeys(REFUSALS, 1), "message": 2, "garbage": 1}
_OTHERS_PER_KILL = 0.5
#: All faults by their names. Without `git`, its commands do not run at all.
FAULTS = frozenset(_KILLS) | frozenset(_OTHERS)


class Faults:
    """Plays faults one after the other, and ends those that last."""

    def __init__(
        self,
        machine: Machine,
        report: Report,
        tenants: Sequence[str],
        faults: AbstractSet[str],
    ) -> None:
        self._machine = machine
        self._report = report
        self._tenants = tenants
        self._faults = faults
        self._refuses = False
        self._random: random.Random = machine.random
        #: When to end a fault, and how.
        self._ends: list[tuple[float, Callable[[], object]]] = []
        self._garbage: list[hostile.Garbage] = []

    def play(self, seconds: float, kills: int) -> None:
        """Kill so often in that time, evenly but for chance, with other faults between."""
        maintenance = self._machine.maintenance
        with maintenance.beside(self._tenants) if "git" in self._faults else nullcontext():
            self._play(seconds, kills)
        self._report.faults += maintenance.started
        maintenance.started.clear()

    def _play(self, seconds: float, kills: int) -> None:
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
        # A file that was torn since may have lost that it was taken away.
        with self._machine.client() as client:
            for garbage in self._garbage:
                garbage.remove(client)

    def _plan(self, seconds: float, kills: int) -> Iterator[tuple[float, str, str]]:
        for kind, number, all_weights in (
            ("kill", kills, _KILLS),
            ("", int(kills * _OTHERS_PER_KILL), _OTHERS),
        ):
            weights = {what: n for what, n in all_weights.items() if what in self._faults}
            if not weights:
                continue
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
            case "torn file":
                struck = machine.tear_broker(away_s=r.choice([0.0, 0.2, 1.5]))
                self._report.faults[f"torn: {struck}"] += 1
                self._later(r.uniform(0.5, 6), self._restart_broker)
            case "producer":
                return machine.kill_producer()
            case "git":
                return machine.maintenance.kill()
            case "sender":
                return machine.hooks is not None and machine.hooks.kill_sender()
            case "receiver":
                return machine.hooks is not None and machine.hooks.kill_receiver()
            case "message":
                return self._send_a_bad_message()
            case "garbage":
                return self._plant_garbage()
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
                end = self._end_of_workers()
                machine.relayout(r.choice(LAYOUTS), end)
            case "scale":
                machine.scale(self._end_of_workers())
            case kind_of_refusal if kind_of_refusal in REFUSALS:
                return self._refuse_writes(kind_of_refusal, r.uniform(0.3, 4))
            case _:
                raise AssertionError(f"no fault {what}")
        return True

    def _end_of_workers(self) -> Callable[[Child], object]:
        """In order, or not."""
        if self._random.random() < 0.5:
            return Child.ask_to_end
        return lambda child: child.process.kill()

    def _restart_broker(self) -> None:
        self._machine.restart_broker()
        self._report.faults["orderly restart"] += 1

    def _refuse_writes(self, kind: str, seconds: float) -> bool:
        if self._refuses:
            return False
        self._refuses = True
        self._machine.refuse_writes(kind)

        def end() -> None:
            self._machine.accept_writes()
            self._refuses = False

        self._later(seconds, end)
        return True

    def _send_a_bad_message(self) -> bool:
        if self._refuses:
            return False
        with self._machine.client() as client:
            kind = hostile.send(client, self._random)
        self._report.faults[f"message: {kind}"] += 1
        return True

    def _plant_garbage(self) -> bool:
        if self._refuses:
            return False
        with self._machine.client() as client:
            garbage = hostile.Garbage(client, self._random)
        self._garbage.append(garbage)

        def end() -> None:
            self._machine.accept_writes()
            with self._machine.client() as client:
                garbage.remove(client)

        self._later(self._random.uniform(1, 8), end)
        return True
