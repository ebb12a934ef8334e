"""A commit of one in a tenant of 10,000 devices, with this code and with that of before, in one run.

As a program it reads one word a line and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.fleet import Fleet, folder
from tests.bench.table import Row, alternate, median_costs, timed
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer, open_for_writing

#: The last commit that deflated the whole root tree, read it in each turn, and synced file by file.
BEFORE = "db71cc2"
DEVICES = 10_000
_ROUNDS = 11
_COMMITS = 3
_BOUND_BYTES = 12_000

_WRITES_AND_SYNCS = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        for place in range(64):
            os.pwrite(file.fileno(), os.urandom(1 << 20), place << 20)
            os.fsync(file.fileno())
        os.ftruncate(file.fileno(), 0)
"""


def rows() -> Iterator[Row]:
    """The table's rows."""
    # Here, so that the program needs nothing that the code of before has not.
    from tests.bench.before import now_and_before
    from tests.bench.table import at_most

    with now_and_before(BEFORE, "large_tenant.py") as both, folder() as where:
        if both is None:
            return
        for beside in (False, True):
            name = ", beside a process that writes and syncs 1 MB in a loop" if beside else ""
            with _busy(where / "other", wanted=beside):
                for word, what in (
                    ("turn", "turn with a commit of one"),
                    ("commit", "commit of one"),
                ):
                    contenders = [partial(each.ask, word) for each in both]
                    now, before = median_costs(alternate(contenders, _ROUNDS))
                    yield at_most(
                        f"{what}, 10,000 devices{name}, over the code of before",
                        now / before,
                        0.5 if beside else None,
                        detail=f"{now * 1e3:.2f} and {before * 1e3:.2f} ms",
                    )
        now_bytes, before_bytes = (each.ask("bytes") for each in both)
        yield at_most(
            "bytes of a pack of one, 10,000 devices, with hardly any of the device, part of 12 kB",
            now_bytes / _BOUND_BYTES,
            detail=f"{now_bytes / 1000:,.1f} kB and {before_bytes / 1000:,.1f} kB before",
        )


@contextmanager
def _busy(path: Path, *, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", _WRITES_AND_SYNCS, str(path)]) as other:
        try:
            yield
        finally:
            other.kill()


def main() -> None:
    """Answer until there is nothing more to read."""
    fleet = Fleet(DEVICES)
    with folder() as where:
        path = where / f"{fleet.uuid()}.git"
        writer = Writer(create_repository(path))
        # Small, but all different: the ids in the root tree do not compress.
        firsts = [
            Backup(fleet.uuid(), device_id, device_id.encode(), None, "first")
            for device_id in fleet.device_ids
        ]
        for start in range(0, DEVICES, 2_500):
            writer.commit_backups(firsts[start : start + 2_500])

        def commit() -> float:
            (backup,) = fleet.batch(1)
            return timed(lambda: writer.commit_backups([backup]))

        def turn() -> float:
            (backup,) = fleet.batch(1)

            def run() -> None:
                with open_for_writing(path) as opened:
                    opened.commit_backups([backup])

            return timed(run)

        def size() -> int:
            packs = path / "objects" / "pack"
            known = set(packs.glob("*.pack"))
            writer.commit_backups(
                [Backup(fleet.uuid(), fleet.device_ids[0], b"", fleet.uuid().encode(), "m")]
            )
            (pack,) = set(packs.glob("*.pack")) - known
            return pack.stat().st_size

        for line in sys.stdin:
            word = line.strip()
            if word == "bytes":
                print(json.dumps(size()), flush=True)
            else:
                run = commit if word == "commit" else turn
                print(json.dumps(statistics.median(run() for _ in range(_COMMITS))), flush=True)


if __name__ == "__main__":
    main()
