"""What maintenance leaves of a history, against git's best and worst, and what it costs commits."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench.fleet import Fleet, disk_bytes, folder
from tests.bench.table import Row, alternate, at_most, processors_s, timed
from tests.damage import loosen
from tests.judge import git
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.upkeep.repack import needs_repack, repack
from worker.store.writing.commit import Writer

#: A folder of real histories: one folder for each device, in it its exports in the order of names.
DATA_VARIABLE = "CONFKEEP_BENCH_DATA"

#: The defaults of the settings.
REPACK_PACKS, REPACK_LOOSE = 40, 2_000
#: Backups that a poll brings at once.
BATCH = 4
SINGLE_COMMITS = 10_000
#: Commits whose objects, four each, all lie loose.
LOOSE_COMMITS = 12_500
#: Repacks after which the packs of single commits have been put together twice to eight at a time.
LONG_ROUNDS = 16
#: Commits whose time is taken, in each of the rounds, and their rounds.
TIMED, ROUNDS = 60, 5


def rows() -> Iterator[Row]:
    """The rows about maintenance."""
    yield from sizes("generated text", generated(60, 1_200))
    yield from sizes(
        "generated, random binaries", generated(20, 400, binary_bytes=20_000), text=False
    )
    data = os.environ.get(DATA_VARIABLE)
    if data:
        yield from sizes(f"{DATA_VARIABLE}", recorded(Path(data)))
    else:
        yield Row(
            f"bytes per version of real histories ({DATA_VARIABLE} names no folder)",
            0,
            None,
            detail="not measured",
        )
    yield repacks_of_a_long_history()
    yield files_after_single_commits()
    yield files_of_loose_objects()
    yield from latency()


def generated(devices: int, count: int, binary_bytes: int = 0) -> list[Backup]:
    """Polls of devices that change a little each time."""
    fleet = Fleet(devices)
    exports = {device_id: fleet.export() for device_id in fleet.device_ids}
    backups = []
    for number in range(count):
        device_id = fleet.device_ids[number % devices]
        exports[device_id] = fleet.next_export(exports[device_id])
        backup = dataclasses.replace(
            fleet.backup(device_id),
            export=exports[device_id],
            binary=fleet.random.randbytes(binary_bytes) if binary_bytes else None,
        )
        backups.append(backup)
    return backups


def recorded(path: Path) -> list[Backup]:
    """The histories below a folder, of all devices beside each other."""
    versions = []
    for parent, _folders, names in os.walk(path):
        exports = sorted(name for name in names if name.endswith(".rsc"))
        device_id = str(uuid.uuid5(uuid.NAMESPACE_OID, parent))
        for number, name in enumerate(exports):
            versions.append((number / len(exports), device_id, Path(parent, name).read_bytes()))
    versions.sort(key=lambda version: version[:2])
    return [
        Backup(str(uuid.uuid4()), device_id, export, None, "m")
        for _when, device_id, export in versions
    ]


def sizes(name: str, backups: Sequence[Backup], *, text: bool = True) -> Iterator[Row]:
    """Bytes per version after maintenance, against `git gc --aggressive` and loose objects."""
    with folder() as where:
        ours, theirs, loose = (where / f"{part}.git" for part in ("ours", "theirs", "loose"))
        writer = Writer(create_repository(ours))
        for start in range(0, len(backups), BATCH):
            writer.commit_backups(backups[start : start + BATCH])
        written = disk_bytes(ours / "objects")
        shutil.copytree(ours, theirs)
        shutil.copytree(ours, loose)
        ours_s = timed(lambda: repack(ours, full=True))
        theirs_s = timed(lambda: git(theirs, "gc", "--aggressive", "--prune=now", "--quiet"))
        loosen(loose)
        count = len(backups)
        mine, best, worst = (disk_bytes(path / "objects") / count for path in (ours, theirs, loose))
        yield at_most(
            f"bytes per version after maintenance, {name}, against git gc --aggressive",
            mine / best,
            1.05,
            1.0,
            detail=f"{mine:,.0f} and {best:,.0f} of {written / count:,.0f} before, "
            f"{count:,} versions, {ours_s:.1f} and {theirs_s:.1f} s",
        )
        if text:
            yield at_most(
                f"bytes per version after maintenance, {name}, against loose objects",
                mine / worst,
                0.1,
                detail=f"{mine:,.0f} and {worst:,.0f}, in blocks of the disk",
            )


def repacks_of_a_long_history() -> Row:
    """Geometric repacks of a tenant polled one by one, when its history is long and when it is short."""
    with folder() as where:
        contenders = [_single_commits_and_repack(where / f"{n}.git", n) for n in (60_000, 6_000)]
        long, short = zip(*alternate(contenders, LONG_ROUNDS), strict=True)
        return at_most(
            "processor time of a geometric repack after 60,000 commits over after 6,000",
            statistics.mean(long) / statistics.mean(short),
            1.5,
            detail=f"means {statistics.mean(long) * 1e3:.0f} and {statistics.mean(short) * 1e3:.0f} ms, "
            f"medians {statistics.median(long) * 1e3:.0f} and {statistics.median(short) * 1e3:.0f} ms, "
            f"of {LONG_ROUNDS} each",
        )


def _single_commits_and_repack(path: Path, commits: int) -> Callable[[], float]:
    """Seconds of processors, git's included, for the repack after so many single commits more."""
    fleet, writer = Fleet(100), Writer(create_repository(path))

    def backups(count: int) -> list[Backup]:
        return [
            Backup(fleet.uuid(), device_id, fleet.export(1_000), None, "m")
            for device_id in fleet.random.choices(fleet.device_ids, k=count)
        ]

    for start in range(0, commits, 250):
        writer.commit_backups(backups(250))
        if start % 10_000 == 0:
            repack(path, full=False)
    # So that what is measured starts from the packs that repacks leave.
    repack(path, full=False)

    def run() -> float:
        for backup in backups(REPACK_PACKS + 1):
            writer.commit_backups([backup])
        before = processors_s()
        repack(path, full=False)
        return processors_s() - before

    return run


def files_after_single_commits() -> Row:
    """One commit at a time, and a repack beside them whenever the worker would ask for one."""
    with folder() as where:
        fleet, repository = Fleet(100), create_repository(where / "a.git")
        path, repacks, most = repository.path, 0, 0
        writer = Writer(repository)
        beside: threading.Thread | None = None
        for number in range(SINGLE_COMMITS):
            device_id = fleet.device_ids[number % 100]
            backup = Backup(fleet.uuid(), device_id, b"/ip\nadd a=%d\n" % number, None, "m")
            writer.commit_backups([backup])
            if needs_repack(path, most_packs=REPACK_PACKS, most_loose=REPACK_LOOSE) and (
                beside is None or not beside.is_alive()
            ):
                most = max(most, _files(path))
                beside = threading.Thread(target=repack, args=(path,))
                beside.start()
                repacks += 1
        if beside is not None:
            beside.join()
        if needs_repack(path, most_packs=REPACK_PACKS, most_loose=REPACK_LOOSE):
            repack(path)
        files = _files(path)
        assert git(path, "rev-list", "--count", "main") == b"%d\n" % SINGLE_COMMITS
        return at_most(
            f"files of a repository after {SINGLE_COMMITS:,} single commits, against 100",
            files / 100,
            detail=f"{files} files, {repacks} repacks beside the commits, at most {most} files",
        )


def files_of_loose_objects() -> Row:
    """A repository of another program's, which never packed: one repack, as a worker asks for it."""
    with folder() as where:
        path = where / "a.git"
        writer = Writer(create_repository(path))
        backups = generated(100, LOOSE_COMMITS)
        for start in range(0, len(backups), 256):
            writer.commit_backups(backups[start : start + 256])
        loosen(path)
        before, size = _files(path), disk_bytes(path / "objects")
        assert needs_repack(path, most_packs=REPACK_PACKS, most_loose=REPACK_LOOSE)
        taken_s = timed(lambda: repack(path))
        files = _files(path)
        assert git(path, "rev-list", "--count", "main") == b"%d\n" % LOOSE_COMMITS
        return at_most(
            f"files of a repository of {before:,} loose objects after one repack, against 100",
            files / 100,
            detail=f"{files} files, {size >> 20} MiB became {disk_bytes(path / 'objects') >> 20}, "
            f"{taken_s:.0f} s",
        )


def latency() -> Iterator[Row]:
    """Single commits while a repack runs, and while none does."""
    with folder() as where:
        writer = Writer(create_repository(where / "a.git"))
        backups = generated(60, 1_200)
        for start in range(0, len(backups), 256):
            writer.commit_backups(backups[start : start + 256])
        fleet = Fleet(60, seed=2)
        for full in (False, True):
            alone: list[float] = []
            beside: list[float] = []
            for _ in range(ROUNDS):
                alone += _commits(writer, fleet, lambda: True)
                running = threading.Event()
                stop = threading.Event()
                thread = threading.Thread(
                    target=_repack_until, args=(writer.repository.path, full, running, stop)
                )
                thread.start()
                running.wait()
                beside += _commits(writer, fleet, thread.is_alive)
                stop.set()
                thread.join()
            without, during = statistics.median(alone), statistics.median(beside)
            slow = [statistics.quantiles(times, n=20)[-1] for times in (alone, beside)]
            yield at_most(
                f"latency of a commit during a {'full' if full else 'geometric'} repack, over without",
                during / without,
                2,
                detail=f"medians {during * 1e3:.2f} and {without * 1e3:.2f} ms, "
                f"95 % {slow[1] * 1e3:.2f} and {slow[0] * 1e3:.2f} ms",
            )


def _commits(writer: Writer, fleet: Fleet, while_: Callable[[], bool]) -> list[float]:
    times = []
    for _ in range(TIMED):
        if not while_():
            break
        backup = fleet.batch(1)
        times.append(timed(lambda backup=backup: writer.commit_backups(backup)))  # type: ignore[misc]
        # Git, too, is to get its turn: a poller does not commit without pause.
        time.sleep(0.002)
    return times


def _repack_until(path: Path, full: bool, running: threading.Event, stop: threading.Event) -> None:
    running.set()
    while not stop.is_set():
        repack(path, full=full)


def _files(path: Path) -> int:
    return sum(len(files) for _parent, _folders, files in os.walk(path))
