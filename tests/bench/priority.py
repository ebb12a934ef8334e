"""How long a person waits while 13,500 backups of three other tenants do: for a backup of high priority, and to read."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Iterator

from confkeep import enqueue_backup, enqueue_backups, history
from confkeep.broker import keys
from tests.bench.fleet import Fleet
from tests.bench.producing import producing
from tests.bench.table import Row, at_most, timed

_TENANTS = 3
_WAITING = 4_500
_DEVICES = 200
#: Of each kind, at most: fewer where the bulk is committed sooner.
_ASKED = 200
_MOST_S = 1.0
_TIMEOUT_S = 300


def rows() -> Iterator[Row]:
    """The table's rows, with two worker processes."""
    fleet = Fleet(_DEVICES)
    bulk = [str(uuid.uuid4()) for _ in range(_TENANTS)]
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    kept: list[float] = []
    read: list[float] = []
    with producing() as deployed, deployed.client() as client:
        for each in bulk:
            export = fleet.export().decode()
            enqueue_backups(
                {
                    "tenant_id": each,
                    "device_id": fleet.device_ids[number % _DEVICES],
                    "export_text": f"{export}/ip address add address=10.0.0.{number}\n",
                    "binary_backup": None,
                    "message": "bulk",
                }
                for number in range(_WAITING)
            )
        deployed.start_worker(concurrency=2)

        def back_up() -> None:
            text = f"/system identity\nset name=core{len(kept)}\n"
            result = enqueue_backup(tenant, device, text, None, "now", priority="high")
            result.receipt(timeout=_TIMEOUT_S)

        def waits() -> bool:
            return all(client.xlen(keys.inbox(each)) for each in bulk)

        while waits() and len(kept) < _ASKED:
            kept.append(timed(back_up))
            read.append(timed(lambda: history(tenant, device, timeout=_TIMEOUT_S)))
        left = sum(client.xlen(keys.inbox(each)) for each in bulk)
        for worker in deployed.workers:
            worker.process.kill()
    for what, times in (("backup of high priority", kept), ("history, by a worker", read)):
        half, most = (statistics.quantiles(times, n=100)[part - 1] for part in (50, 95))
        yield at_most(
            f"{what}, beside 13,500 waiting backups of three other tenants, p95, part of 1 s",
            most / _MOST_S,
            detail=f"p50 {half * 1e3:.0f} and p95 {most * 1e3:.0f} ms, {len(times)} asked, {left:,} waited still",
        )
