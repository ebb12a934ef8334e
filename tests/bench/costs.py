"""`python -m tests.bench.costs [PART...]`: what one backup costs in each resource; the figures of docs/scale.md.

Absolute figures of the machine that it runs on (about five minutes), not rows of the table.
"""

from __future__ import annotations

import dataclasses
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from confkeep.broker import keys
from confkeep.settings import get_settings
from tasks import enqueue_backup, enqueue_backups
from tests.bench.fleet import Fleet, disk_bytes, folder
from tests.bench.producing import producing
from tests.bench.table import processors_s, timed
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.process.sweeper import Sweeper
from worker.queue import backoff, inboxes
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, repository_path, tenants_of
from worker.store.upkeep.repack import repack
from worker.store.writing.commit import Writer

#: Backups of a tenant that one turn finds.
BATCHES = (1, 10, 50, 100)
_DEVICES = 50
_TENANTS_WAITING = 20_000
_DRAIN_S = 300.0


def say(name: str, *figures: str) -> None:
    """Print a line."""
    print(f"{name:<58} {'  '.join(figures)}", flush=True)


class Tenants:
    """Tenants whose repositories exist, each with devices that have one version."""

    def __init__(self, number: int, devices: int = _DEVICES, seed: int = 1) -> None:
        self.fleet = Fleet(devices, seed)
        self.ids = [self.fleet.uuid() for _ in range(number)]

    def found(self, store: Path) -> None:
        """Create the repositories."""
        for tenant_id in self.ids:
            self.fleet.found(repository_path(store, tenant_id)).git.free()

    def backups(self, of_each: int, few: int | None = None) -> list[Any]:
        """So many new backups of each tenant, or of few, tenant after tenant, as a producer hands them over."""
        return [values for one in self.ids[:few] for values in self.backups_of(one, of_each)]

    def backups_of(self, tenant_id: str, number: int) -> list[Any]:
        """So many new backups of one tenant."""
        return [values_of(tenant_id, backup) for backup in self.fleet.batch(number)]


def values_of(tenant_id: str, backup: Backup) -> Any:
    """A backup as arguments of `enqueue_backup`."""
    return {
        "tenant_id": tenant_id,
        "device_id": backup.device_id,
        "export_text": backup.export.decode(),
        "binary_backup": backup.binary,
        "message": backup.message,
        "backup_id": backup.backup_id,
    }


@dataclass(frozen=True, slots=True)
class Turns:
    """What the workers and the server spent for backups, in seconds each backup."""

    wall_s: float
    worker_cpu_s: float
    server_cpu_s: float
    aof_bytes: float


def server_cpu_s(client: redis.Redis) -> float:
    """Processor time of the server so far."""
    used: Any = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _aof_bytes(client: redis.Redis) -> int:
    found: Any = client.info("persistence")
    return int(found["aof_current_size"])


def _memory_bytes(client: redis.Redis) -> int:
    found: Any = client.info("memory")
    return int(found["used_memory"])


def workers_cpu_s(workers: Sequence[psutil.Process]) -> float:
    """Processor time of workers' processes and their children so far, git's among them."""
    total = 0.0
    for worker in workers:
        for process in (worker, *worker.children(recursive=True)):
            used = process.cpu_times()
            total += used.user + used.system
            total += getattr(used, "children_user", 0.0) + getattr(used, "children_system", 0.0)
    return total


def drain(deployed: Deployment, waiting: Sequence[Any]) -> Turns:
    """Enqueue all while the workers are stopped, and let them commit it."""
    processes = [psutil.Process(worker.pid) for worker in deployed.workers]
    everyone = [p for worker in processes for p in (worker, *worker.children(recursive=True))]
    for process in everyone:
        process.suspend()
    with deployed.client() as client:
        for start in range(0, len(waiting), 100):
            enqueue_backups(waiting[start : start + 100])
        worker_s, server_s, aof = (
            workers_cpu_s(processes),
            server_cpu_s(client),
            _aof_bytes(client),
        )
        start_s = time.perf_counter()
        for process in everyone:
            process.resume()
        wait_for(lambda: not client.exists(keys.WAITING), "the drain", _DRAIN_S)
        wall_s = time.perf_counter() - start_s
        count = len(waiting)
        return Turns(
            wall_s / count,
            (workers_cpu_s(processes) - worker_s) / count,
            (server_cpu_s(client) - server_s) / count,
            (_aof_bytes(client) - aof) / count,
        )


@contextmanager
def _growing(**variables: str) -> Iterator[tuple[Deployment, redis.Redis]]:
    """A deployment whose server does not rewrite its append-only file, so that its growth is what was written."""
    with producing(**variables) as deployed, deployed.client() as client:
        client.config_set("auto-aof-rewrite-percentage", 0)
        yield deployed, client


def turns() -> None:
    """What a turn costs, by the number of backups that it finds."""
    with _growing(CONFKEEP_SHARDS="4", CONFKEEP_REPACK_PACKS="0") as (deployed, _):
        tenants = Tenants(60)
        tenants.found(deployed.store)
        deployed.start_worker()
        drain(deployed, tenants.backups(2))
        for batch in BATCHES:
            few = max(6, min(60, 600 // batch))
            costs = [drain(deployed, tenants.backups(batch, few)) for _ in range(3)]
            wall, cpu, server, aof = (
                statistics.median(values)
                for values in zip(*(dataclasses.astuple(c) for c in costs), strict=True)
            )
            say(
                f"a turn of {batch}, each backup",
                f"{wall * 1e3:.2f} ms",
                f"worker's CPU {cpu * 1e3:.2f} ms",
                f"server's CPU {server * 1e3:.3f} ms",
                f"append-only file {aof:,.0f} B",
            )


def enqueues() -> None:
    """What an enqueue costs the producer and the server, and what waits."""
    for where in ("redis", "volume"):
        with _growing(CONFKEEP_STAGING=where) as (_, client):
            tenants = Tenants(1)
            enqueue_backups(tenants.backups(10))
            for name, at_once in (("one by one", 1), ("by 100", 100)):
                waiting = tenants.backups(600)
                used, aof = server_cpu_s(client), _aof_bytes(client)
                memory, own = _memory_bytes(client), time.process_time()
                for start in range(0, len(waiting), at_once):
                    if at_once == 1:
                        enqueue_backup(**waiting[start])
                    else:
                        enqueue_backups(waiting[start : start + at_once])
                own = time.process_time() - own
                count = len(waiting)
                say(
                    f"enqueue {name}, staging {where}, each backup",
                    f"producer's CPU {own / count * 1e3:.2f} ms",
                    f"server's CPU {(server_cpu_s(client) - used) / count * 1e3:.3f} ms",
                    f"append-only file {(_aof_bytes(client) - aof) / count:,.0f} B",
                    f"memory while it waits {(_memory_bytes(client) - memory) / count:,.0f} B",
                )


def receipts_kept() -> None:
    """What a receipt's record takes of the server's memory."""
    # Few events: their stream, which is bounded, would grow with the receipts.
    few = producing(CONFKEEP_SHARDS="4", CONFKEEP_EVENTS_MAX="100")
    with few as deployed, deployed.client() as client:
        tenants = Tenants(4)
        deployed.start_worker()
        drain(deployed, tenants.backups(50))
        memory, kept = _memory_bytes(client), client.dbsize()
        drain(deployed, tenants.backups(1_000))
        records = client.dbsize() - kept
        name = next(iter(client.scan_iter("celery-task-meta-*")))
        say(
            "a kept receipt",
            f"memory {(_memory_bytes(client) - memory) / records:,.0f} B",
            f"of which the record's text {client.strlen(name)} B",
        )


def sweeps() -> None:
    """What the sweep and the lists of status cost with many waiting tenants."""
    with producing() as deployed, deployed.client() as client:
        settings = get_settings()
        fleet = Fleet(1)
        export = "/ip\n"
        small: list[Any] = [
            {**values_of(fleet.uuid(), fleet.backup(fleet.device_ids[0])), "export_text": export}
            for _ in range(_TENANTS_WAITING)
        ]
        for values in small:
            values["binary_backup"] = None
        for start in range(0, len(small), 500):
            enqueue_backups(small[start : start + 500])
        sweeper = Sweeper(app, settings, client, "bench")
        sweeper.sweep()

        def measured(name: str, call: Callable[[], object]) -> None:
            used, own = server_cpu_s(client), time.process_time()
            wall = timed(call)
            say(
                f"{name}, {_TENANTS_WAITING:,} tenants wait",
                f"{wall * 1e3:.0f} ms",
                f"own CPU {(time.process_time() - own) * 1e3:.0f} ms",
                f"server's CPU {(server_cpu_s(client) - used) * 1e3:.0f} ms",
            )

        measured("sweep of all shards, wake-ups fresh", sweeper.sweep)
        time.sleep(settings.wake_ttl_s)
        measured("sweep of all shards, wake-ups old and in the queue", sweeper.sweep)
        other = Sweeper(
            app, settings.model_copy(update={"worker_count": 16}), client, "bench of 16"
        )
        measured("sweep of one worker of 16", other.sweep)
        boxes = inboxes.list_inboxes(client)
        measured("list of the inboxes", lambda: inboxes.list_inboxes(client))
        measured("the waits", lambda: backoff.get_many(client, [box.tenant_id for box in boxes]))
        measured("the load", lambda: inboxes.read_load(client))
        empty = deployed.path / "many"
        for values in small:
            os.makedirs(empty / f"{values['tenant_id']}.git")
        measured("list of the tenants", lambda: tenants_of(empty))
        os.environ["CONFKEEP_GIT_STORE_PATH"] = str(empty)
        command = [sys.executable, "-m", "confkeep", "status", "--json"]
        wall = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        say(f"confkeep status --json, {_TENANTS_WAITING:,} tenants wait", f"{wall * 1e3:.0f} ms")


def _files_and_bytes(path: Path) -> tuple[int, int]:
    return len([path, *path.rglob("*")]), disk_bytes(path)


def repositories() -> None:
    """Bytes, inodes and time of repositories of 50 devices."""
    with folder() as where:
        path = where / "new.git"
        say("create a repository", f"{timed(lambda: create_repository(path)) * 1e3:.1f} ms")
        inodes, size = _files_and_bytes(path)
        say("a new repository", f"{inodes} inodes", f"{size:,} B")
        fleet = Fleet(_DEVICES)
        repository = fleet.found(where / "a.git")
        writer = Writer(repository)
        for number in range(40):
            writer.commit_backups(fleet.batch(1))
            if number in (0, 19, 38):
                times = [timed(lambda: create_repository(repository.path)) for _ in range(9)]
                inodes, size = _files_and_bytes(repository.path)
                say(
                    f"a repository with {number + 2} packs",
                    f"open {statistics.median(times) * 1e3:.2f} ms",
                    f"{inodes} inodes",
                )
        repacks(repository.path)


def repacks(path: Path) -> None:
    """Print what a geometric and a full repack of a repository cost."""
    for full in (False, True):
        used = processors_s()
        wall = timed(lambda full=full: repack(path, full=full))  # type: ignore[misc]
        cpu = processors_s() - used
        inodes, size = _files_and_bytes(path)
        say(
            f"{'full' if full else 'geometric'} repack",
            f"{wall * 1e3:.0f} ms",
            f"CPU with git's {cpu * 1e3:.0f} ms",
            f"{inodes} inodes",
            f"{size:,} B",
        )


def versions() -> None:
    """Bytes that a version adds to a repository, before and after a full repack."""
    fleet = Fleet(_DEVICES)
    rng = random.Random(2)
    binaries = {device_id: bytearray(rng.randbytes(50_000)) for device_id in fleet.device_ids}
    exports = {device_id: fleet.export() for device_id in fleet.device_ids}

    def date(device_id: str) -> bytes:
        lines = exports[device_id].split(b"\n", 1)
        return (
            b"# 2025-10-%02d 10:%02d:00 by RouterOS 7.16\n"
            % (
                rng.randrange(1, 29),
                rng.randrange(60),
            )
            + (lines[1])
        )

    def changed(device_id: str) -> bytes:
        exports[device_id] = fleet.next_export(exports[device_id])
        return exports[device_id]

    def near(device_id: str) -> bytes:
        for _ in range(7):
            binaries[device_id][rng.randrange(50_000)] = rng.randrange(256)
        return bytes(binaries[device_id])

    def none(_device_id: str) -> bytes | None:
        return None

    kinds: dict[str, tuple[Callable[[str], bytes], Callable[[str], bytes | None]]] = {
        "nothing changed": (lambda d: exports[d], none),
        "the date in the export changed": (date, none),
        "5 lines of the export changed": (changed, none),
        "the date, and 7 bytes of the binary": (date, near),
        "the date, and all of the binary (encrypted)": (date, lambda _d: rng.randbytes(50_000)),
    }
    for name, (export, binary) in kinds.items():
        for batch in (1, 50):
            with folder() as where:
                repository = create_repository(where / "a.git")
                writer = Writer(repository)

                def polled(ids: Sequence[str]) -> None:
                    backups = [
                        Backup(str(uuid.uuid4()), d, export(d), binary(d), "m")  # noqa: B023
                        for d in ids
                    ]
                    writer.commit_backups(backups)  # noqa: B023

                polled(fleet.device_ids)
                repack(repository.path, full=True)
                before = _content_bytes(repository.path)
                count = 2 * _DEVICES
                for start in range(0, count, batch):
                    polled([fleet.device_ids[n % _DEVICES] for n in range(start, start + batch)])
                written = _content_bytes(repository.path)
                index = (repository.path / "confkeep.index").stat().st_size
                repack(repository.path, full=False)
                geometric = _content_bytes(repository.path)
                took = timed(lambda: repack(repository.path, full=True))  # noqa: B023
                after = _content_bytes(repository.path)
                say(
                    f"a version, batch {batch}: {name}",
                    f"{(written - before) / count:,.0f} B written",
                    f"{(geometric - before) / count:,.0f} B after a geometric repack",
                    f"{(after - before) / count:,.0f} B after a full one",
                    f"{took / count * 1e3:.1f} ms of it",
                    f"index {index / (count + _DEVICES):,.0f} B",
                )


def _content_bytes(path: Path) -> int:
    """Bytes of packs and idx files, without the rest of their last blocks."""
    return sum(file.stat().st_size for file in (path / "objects" / "pack").iterdir())


def main() -> None:
    """Measure all, or the parts that are named."""
    for part in (repositories, versions, enqueues, receipts_kept, turns, sweeps):
        if part.__name__ in sys.argv[1:] or not sys.argv[1:]:
            part()


if __name__ == "__main__":
    main()
