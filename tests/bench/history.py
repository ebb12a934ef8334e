"""Reading: a device's history against a walk over all commits, and line deltas against difflib."""

from __future__ import annotations

import difflib
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.bench.table import Row, alternate, median_costs, timed
from tests.histories import START_S, Stream, device_ids
from worker.engine.directory import directory_of
from worker.engine.versions import changed_devices
from worker.store.history.index import INDEX_NAME, open_index
from worker.store.repository import reader
from worker.store.repository.line_delta import compute_line_delta
from worker.store.repository.tenant_repository import open_repository

COMMITS = 100_000
DEVICES = 1_000
#: Commits a second that the index is to be built at.
BUILD_RATE = 2_000
WALKS = 5
#: Commits of a walk over all devices' commits.
WALKED = 5_000
#: Reads a round: one alone measures what the walk before it left in the processor's caches.
READS = 20


def rows() -> Iterator[Row]:
    """The rows about reading."""
    yield line_delta()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.git")
        write_polls(path)
        yield index_build(path)
        yield history(path)
        yield devices(path)


def write_polls(path: Path) -> None:
    """Every device in turn, each time changed."""
    devices, stream = device_ids(DEVICES), Stream()
    for number in range(COMMITS):
        files: dict[str, bytes | None] = {
            f"{devices[number % DEVICES]}/{name}": b"%d\n" % number
            for name in ("export.rsc", "backup.bin")
        }
        stream.commit(files, when_s=START_S + number // 10)
    stream.write(path)


def index_build(path: Path) -> Row:
    """Building the index of an existing repository."""
    repository = open_repository(path)

    def build() -> float:
        def run() -> None:
            with open_index(repository) as index:
                assert index.catch_up(repository.tip(), anew=True)

        return timed(run)

    (cost,) = median_costs(alternate([build], 3))
    rate = COMMITS / cost
    return Row(
        f"index built, commits/s at {DEVICES:,} devices, against {BUILD_RATE:,}",
        rate / BUILD_RATE,
        1,
        detail=f"{rate:,.0f} commits/s, {(path / INDEX_NAME).stat().st_size / COMMITS:.0f} bytes each",
    )


def history(path: Path) -> Row:
    """One device's versions, from opening the repository to the list."""
    device = device_ids(DEVICES)[DEVICES // 2]

    def by_index() -> None:
        repository = open_repository(path)
        with open_index(repository) as index:
            assert len(index.versions(device, tip=repository.tip())) == COMMITS // DEVICES

    def by_walk() -> None:
        versions = list(reader.walk_versions(open_repository(path), device))
        assert len(versions) == COMMITS // DEVICES

    def some_by_index() -> None:
        for _ in range(READS):
            by_index()

    rounds = alternate([lambda: timed(some_by_index) / READS, lambda: timed(by_walk)], WALKS)
    ours, theirs = median_costs(rounds)
    return Row(
        f"history of one device ({COMMITS // DEVICES} versions) among {COMMITS:,} commits of "
        f"{DEVICES:,} devices, against walk",
        theirs / ours,
        10_000,
        detail=f"{ours * 1e3:.2f} ms, walk {theirs:.1f} s; to be under 3 ms",
    )


def devices(path: Path) -> Row:
    """What `confkeep history TENANT` lists, from opening the repository."""

    def by_index() -> None:
        assert len(directory_of(open_repository(path))) == DEVICES

    def by_walk() -> None:
        repository = open_repository(path)
        found: Counter[str] = Counter()
        for commit in islice(repository.git.walk(repository.tip()), WALKED):
            found.update(changed_devices(commit))
        assert found.total() == WALKED

    def some_by_index() -> None:
        for _ in range(READS):
            by_index()

    # A whole walk takes minutes, and each commit of it costs the same.
    walk = timed(by_walk) * COMMITS / WALKED
    (ours,) = median_costs(alternate([lambda: timed(some_by_index) / READS], WALKS))
    return Row(
        f"all {DEVICES:,} devices of a tenant with their newest versions, among {COMMITS:,} foreign "
        "commits, against walk",
        walk / ours,
        1_000,
        detail=f"{ours * 1e3:.1f} ms, to be at most 18, walk {walk:.0f} s, from {WALKED:,} commits of it",
    )


def line_delta() -> Row:
    """5,000 lines, of which 200 here and there were edited."""
    old, new = edited_exports()

    def by_difflib() -> None:
        changes = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
        assert sum(line[0] in "+-" for line in changes) >= 400

    rounds = alternate(
        [lambda: timed(lambda: compute_line_delta(old, new)), lambda: timed(by_difflib)]
    )
    ours, theirs = median_costs(rounds)
    return Row(
        "line delta, 5,000-line export with 200 scattered edits, against difflib",
        theirs / ours,
        20,
        50,
        detail=f"{ours * 1e3:.2f} ms, difflib {theirs * 1e3:.1f} ms",
    )


def edited_exports() -> tuple[str, str]:
    """An export with lines that wrap as RouterOS wraps them, so that many stand more than once."""
    rng = random.Random(1)
    lines: list[str] = []
    while len(lines) < 5_000:
        lines.append(f"add action=accept chain=forward comment=customer-{len(lines)} \\")
        for option in rng.sample(range(40), rng.randrange(1, 4)):
            lines.append(f"    dst-port={option} protocol=tcp in-interface=vlan{option} \\")
    lines = lines[:5_000]
    edited = list(lines)
    for at in rng.sample(range(len(lines)), 200):
        edited[at] = f"{edited[at]} disabled=yes"
    return "\n".join(lines), "\n".join(edited)
