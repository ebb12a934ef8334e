"""The parts of a chaos run: broker, proxies, workers, producer and disk, each with its faults."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from confkeep.broker import keys
from tests.chaos import broker
from tests.chaos.hooks import Hooks
from tests.chaos.maintenance import Maintenance
from tests.proxy import Proxy
from tests.servers import wait_for
from worker.process.local import Child, EmbeddedServer

#: Times to live that let a minute hold many recoveries. Recoveries are timed with the defaults.
QUICK = {
    "CONFKEEP_LOCK_TTL_S": "1.5",
    "CONFKEEP_WAKE_TTL_S": "1",
    "CONFKEEP_SWEEP_INTERVAL_S": "0.5",
    "CONFKEEP_SLICE_S": "1",
    "CONFKEEP_REDIS_TIMEOUT_S": "2",
    "CONFKEEP_BATCH_MAX_BACKUPS": "40",
}
#: Seconds that a worker is paused: longer than the lock lives.
PAUSE_S = 3.0
#: Seconds after which the broker gives a dead worker's messages to another. The product's 120 would
#: make each run wait for them at its end.
_VISIBILITY_S = 8
#: Seconds after which a worker is killed that was asked to end, as every supervisor does. Celery waits for
#: ever for a task whose process was killed while the broker was away.
_GRACE_S = 15.0
#: Most milliseconds of a sync: between two steps of a write there is time, as on a disk.
_SYNC_MS = 40
_DISK_BYTES = 192 * 1024 * 1024
#: What a deployment may have: number of shards, of workers. Fewer workers run than three when the
#: count says so, and the rest share.
LAYOUTS = [(16, 1), (16, 2), (4, 3), (1, 1), (7, 2), (40, 3)]
#: Numbers of workers, one after the other, as somebody who adds and removes them wants them.
_SIZES = (1, 8, 3)
_POOLS = [("prefork", 2), ("threads", 2), ("prefork", 1)]


@dataclass
class Slot:
    """A place for a worker; the supervisor fills it again whenever it is empty."""

    number: int
    pool: str
    concurrency: int
    child: Child | None = None
    paused: list[int] = field(default_factory=list)
    #: When it was asked to end, by the monotonic clock; None: it was not.
    asked_s: float | None = None
    #: Whether nobody follows when it has ended.
    leaves: bool = False

    @property
    def name(self) -> str:
        return f"w{self.number}"

    def running(self) -> bool:
        return self.child is not None and self.child.running()


class Machine:
    """One deployment. Its methods are faults, and their ends."""

    def __init__(self, path: Path, seed: int, *, options: tuple[str, ...] = ()) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.server = EmbeddedServer(path / "server")
        self.store = path / "store"
        self.log = path / "workers.log"
        self._numbers = itertools.count()
        self._sizes = itertools.cycle(_SIZES)
        self.slots: list[Slot] = []
        self._add_slots(len(_POOLS))
        self.layout = LAYOUTS[0]
        self.variables: dict[str, str] = {}
        self.producer: subprocess.Popen[bytes] | None = None
        self.producers_started = 0
        #: Senders and receivers of webhooks, in a round that has them.
        self.hooks: Hooks | None = None
        self.unexpected: list[str] = []
        #: Workers that ended though nobody killed them or asked them to.
        self.ended: list[str] = []
        # Chances of their own: how often they are asked depends on the time that all takes, and the
        # plan of the next round must not.
        self.maintenance = Maintenance(self.store, path / "git.log", random.Random(f"{seed} git"))
        self._torn_chance = random.Random(f"{seed} torn")
        self._options = options
        self._ballast = self.store / "ballast"
        self.has_disk = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything up; and everything that was started ended afterwards."""
        self.store.mkdir(parents=True)
        try:
            self.has_disk = self._mount()
            self.server.start()
            with Proxy(self.server.socket) as self.proxy, Proxy(self.server.socket) as self.own:
                try:
                    yield
                finally:
                    self.resume()
                    self.maintenance.kill()
                    if self.hooks is not None:
                        self.hooks.end()
                    self._end_producer(signal.SIGKILL)
                    for slot in self.slots:
                        if slot.child is not None:
                            slot.child.ask_to_end()
                    for slot in self.slots:
                        if slot.child is not None:
                            slot.child.stop()
        finally:
            self.server.stop()
            if self.has_disk:
                # libgit2 keeps the packs open of repositories that the judge has read.
                gc.collect()
                subprocess.run(["umount", str(self.store)], check=True)

    def _mount(self) -> bool:
        if os.geteuid() != 0:
            return False
        options = ["-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(self.store)]
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
        return done.returncode == 0

    # Workers

    def supervise(self) -> None:
        """Start what is not running: workers, and the producer when one was started."""
        for slot in list(self.slots):
            late = slot.asked_s is not None and time.monotonic() > slot.asked_s + _GRACE_S
            if slot.child is not None and slot.running() and late:
                slot.child.process.kill()
                slot.child.process.wait()
            if not slot.running():
                if slot.child is not None and slot.asked_s is None:
                    status = slot.child.process.returncode
                    if status != -signal.SIGKILL:
                        self.ended.append(f"worker {slot.name} ({slot.pool}) ended with {status}")
                if slot.leaves:
                    self._close(slot)
                else:
                    self._start_worker(slot)
        if self.hooks is not None:
            self.hooks.supervise()
        if self.producer is not None and self.producer.poll() is not None:
            if self.producer.returncode != -signal.SIGKILL:
                self.unexpected.append(f"the producer ended with {self.producer.returncode}")
            self._start_producer()

    def _start_worker(self, slot: Slot) -> None:
        shards, count = self.layout
        if slot.child is not None:
            slot.child.stop()
        command = [sys.executable, "-m", "tests.chaos.worker", slot.name, slot.pool]
        command += [str(slot.concurrency), f"visibility={_VISIBILITY_S}", f"sync={_SYNC_MS}"]
        command += self._options
        environment = {
            **os.environ,
            **self.environment(self.proxy),
            "CONFKEEP_SHARDS": str(shards),
            "CONFKEEP_WORKER_COUNT": str(count),
            "CONFKEEP_WORKER_INDEX": str(slot.number % count),
        }
        slot.child = Child(command, log=self.log, env=environment)
        slot.asked_s = None

    def environment(self, proxy: Proxy) -> dict[str, str]:
        """The settings of workers and producer."""
        return {
            "CONFKEEP_REDIS_URL": proxy.url,
            "CONFKEEP_GIT_STORE_PATH": str(self.store),
            "CONFKEEP_STAGING_PATH": str(self.path / "staging"),
            "CONFKEEP_SHARDS": str(LAYOUTS[0][0]),
            "PYTHONWARNINGS": "ignore",
            **QUICK,
            **self.variables,
        }

    def relayout(self, layout: tuple[int, int], end: Callable[[Child], object]) -> None:
        """Let all workers end, so that the supervisor starts them with other shards."""
        self.layout = layout
        for slot in self.slots:
            if slot.child is not None and not slot.paused:
                end(slot.child)
                slot.asked_s = slot.asked_s or time.monotonic()

    def scale(self, end: Callable[[Child], object], number: int = 0) -> None:
        """Add workers, or let some end for good, until so many run; without a number, the next of `_SIZES`."""
        number = number or next(self._sizes)
        staying = [slot for slot in self.slots if not slot.leaves]
        self._add_slots(number - len(staying))
        # A paused one stays: it could not end.
        able = [slot for slot in staying if not slot.paused]
        for slot in self.random.sample(able, min(len(able), max(0, len(staying) - number))):
            slot.leaves = True
            if slot.child is not None:
                end(slot.child)
            slot.asked_s = slot.asked_s or time.monotonic()

    def _add_slots(self, number: int) -> None:
        # No name comes twice: who has it may not have ended yet.
        for n in itertools.islice(self._numbers, max(0, number)):
            self.slots.append(Slot(n, *_POOLS[n % len(_POOLS)]))

    def _close(self, slot: Slot) -> None:
        if slot.child is not None:
            slot.child.stop()
        self.slots.remove(slot)

    def kill_worker(self) -> bool:
        """Kill a worker's main process. False: none is running."""
        slot = self._some_slot(lambda _: True)
        if slot is None or slot.child is None:
            return False
        slot.child.process.kill()
        slot.child.process.wait()
        return True

    def kill_pool_child(self) -> bool:
        """Kill a process of a worker's pool. False: there is none."""
        slot = self._some_slot(lambda slot: slot.pool == "prefork")
        children = [] if slot is None or slot.child is None else _children(slot.child.pid)
        if not children:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.random.choice(children), signal.SIGKILL)
        return True

    def pause_worker(self) -> bool:
        """Stop a worker with all its processes, so that none of them renews the lock."""
        slot = self._some_slot(lambda _: not any(slot.paused for slot in self.slots))
        if slot is None or slot.child is None:
            return False
        slot.paused = [slot.child.pid, *_children(slot.child.pid)]
        _signal(slot.paused, signal.SIGSTOP)
        return True

    def resume(self) -> None:
        """Let paused workers go on."""
        for slot in self.slots:
            _signal(slot.paused, signal.SIGCONT)
            slot.paused = []

    def _some_slot(self, wanted: Callable[[Slot], bool]) -> Slot | None:
        slots = [s for s in self.slots if s.running() and not s.paused and wanted(s)]
        return self.random.choice(slots) if slots else None

    # Broker

    def kill_broker(self, away_s: float) -> None:
        """Kill the broker and start it again after a while."""
        self.server.kill()
        time.sleep(away_s)
        self.server.start()

    def tear_broker(self, away_s: float) -> str:
        """Kill the broker and cut its append-only file where a power cut may. Returns what it struck."""
        return broker.kill_and_tear(self.server, (self.proxy, self.own), self._torn_chance, away_s)

    def restart_broker(self) -> None:
        """End the broker in order, and start it again."""
        broker.restart(self.server)

    def refuse_writes(self, kind: str) -> None:
        """Let the broker refuse to write; `kind` is one of `broker.REFUSALS`."""
        with self.client() as client:
            broker.REFUSALS[kind](client, self.server.data)

    def accept_writes(self) -> None:
        """Undo `refuse_writes`."""
        with self.client() as client:
            broker.end_refusals(client)

    def client(self) -> redis.Redis:
        """A client that goes past the proxies."""
        return redis.Redis(unix_socket_path=str(self.server.socket), socket_timeout=10)

    # Disk

    def fill_disk(self) -> bool:
        """Leave no byte on the store's file system. False: it has none of its own."""
        if not self.has_disk:
            return False
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        return True

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        self._ballast.unlink(missing_ok=True)

    # Producer

    def start_producer(self, record: Path, tenants: list[str]) -> None:
        """Start to produce for `tenants`; the supervisor starts it anew when it was killed."""
        self._producing = record, tenants
        self._start_producer()

    def _start_producer(self) -> None:
        record, tenants = self._producing
        self.producers_started += 1
        seed = f"{self.random.getrandbits(64)}"
        with self.log.open("ab") as log:
            self.producer = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.producer", str(record), seed, *tenants],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment(self.own)},
            )

    def kill_producer(self) -> bool:
        """Kill the producer, in whatever call it is."""
        if self.producer is None or self.producer.poll() is not None:
            return False
        self.producer.kill()
        return True

    def _end_producer(self, number: int) -> None:
        if self.producer is None:
            return
        if self.producer.poll() is None:
            self.producer.send_signal(number)
        try:
            status = self.producer.wait(90)
        except subprocess.TimeoutExpired:
            self.producer.kill()
            status = self.producer.wait()
        # SIGTERM ends one that has only just started.
        if status not in (0, -signal.SIGKILL, -signal.SIGTERM):
            self.unexpected.append(f"the producer ended with {status}")
        self.producer = None

    # The end of a round

    def calm_down(self) -> None:
        """End all faults, and all workers, in order; the next ones have the producer's shards."""
        self.resume()
        self.free_disk()
        self.accept_writes()
        for proxy in (self.proxy, self.own):
            proxy.delay(0)
        self.supervise()
        self._end_producer(signal.SIGTERM)
        self.scale(Child.ask_to_end, len(_POOLS))
        self.relayout(LAYOUTS[0], Child.ask_to_end)

    def wait_until_drained(self) -> None:
        """Until nothing waits anywhere: no inbox, no wake-up, no message that nobody answered."""
        queues = [keys.shard_queue(shard) for shard in range(LAYOUTS[0][0])]
        look_again_s = 0.2
        with self.client() as client:

            def drained() -> bool:
                self.supervise()
                time.sleep(look_again_s)
                names = [keys.WAITING, keys.RECEIVE_QUEUE, *queues]
                names += ["unacked", "unacked_index"]
                return not client.exists(*names) and not any(
                    client.xlen(name) for name in client.scan_iter(keys.inbox("*"), count=10_000)
                )

            wait_for(drained, "the inboxes and queues to be empty", 90)


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
