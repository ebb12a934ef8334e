"""What an event costs: backups from their enqueue to their receipt, with and without events."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from confkeep.broker.connections import get_client
from confkeep.settings import get_settings
from tasks import enqueue_backups
from tests.bench.costs import server_cpu_s
from tests.bench.fleet import Fleet
from tests.bench.producing import producing
from tests.bench.table import Row, alternate, at_most, median_costs
from worker.engine import batch, drain
from worker.queue.inbox import Inbox, Settled

_BACKUPS = 500
_AT_ONCE = 100
_DEVICES = 200


def rows() -> Iterator[Row]:
    """The processor time of this process, which is producer and worker, and of the server."""
    with producing(CONFKEEP_SHARDS="4") as deployed, deployed.client() as client:
        backups = _backups()
        contenders = _kept(client, backups, events=True), _kept(client, backups, events=False)
        contenders[0]()
        rounds = alternate(contenders)
        told, silent = median_costs(rounds)
        yield at_most(
            "cost of a backup from enqueue to receipt, with its event over without",
            statistics.median(with_it / without for with_it, without in rounds),
            1.05,
            detail=f"{told * 1e6:,.0f} and {silent * 1e6:,.0f} us of a processor",
        )


def _kept(client: redis.Redis, backups: list[Any], *, events: bool) -> Callable[[], float]:
    def run() -> float:
        client.flushall()
        tenant = str(uuid.uuid4())
        wanted: list[Any] = [{**values, "tenant_id": tenant} for values in backups]
        settle = Inbox.settle

        def silent(inbox: Inbox, settled: Any, **more: Any) -> Settled:
            return settle(inbox, settled, **{**more, "events": {}})

        def untold(*_args: object) -> None:
            return None

        used, own = server_cpu_s(client), time.process_time()
        with pytest.MonkeyPatch.context() as patch:
            if not events:
                patch.setattr(Inbox, "settle", silent)
                patch.setattr(batch, "event_of", untold)
            for start in range(0, _BACKUPS, _AT_ONCE):
                enqueue_backups(wanted[start : start + _AT_ONCE])
            inbox = Inbox(get_client(), get_settings(), tenant)
            while drain.drain_inbox(inbox).left:
                pass
        return (time.process_time() - own + server_cpu_s(client) - used) / _BACKUPS

    return run


def _backups() -> list[Any]:
    fleet = Fleet(_DEVICES)
    made = (fleet.backup(fleet.random.choice(fleet.device_ids)) for _ in range(_BACKUPS))
    return [
        {
            "device_id": backup.device_id,
            "export_text": backup.export.decode(),
            "binary_backup": backup.binary,
            "message": backup.message,
        }
        for backup in made
    ]
