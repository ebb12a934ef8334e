"""A tenant with a long inbox delays another of its shard by about a time slice."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from confkeep.broker import keys
from confkeep.queue import wakeups
from confkeep.settings import get_settings
from tasks import enqueue_backup, enqueue_backups
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import deployment, wait_for
from worker.app import app


@pytest.mark.parametrize(
    ("waiting", "slice_s"),
    [(8_000, 0.5), pytest.param(50_000, 5.0, marks=[pytest.mark.chaos, pytest.mark.timeout(300)])],
)
def test_a_long_inbox_delays_others_by_a_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int, slice_s: float
) -> None:
    busy, device = str(uuid.uuid4()), str(uuid.uuid4())
    with deployment(
        tmp_path,
        CONFKEEP_SLICE_S=str(slice_s),
        CONFKEEP_SHARDS="1",
        CONFKEEP_BATCH_MAX_BACKUPS="64",
    ) as deployed:
        become_producer(deployed, monkeypatch)
        enqueue_backups(
            {
                "tenant_id": busy,
                "device_id": device,
                "export_text": f"/ip {n}",
                "binary_backup": None,
                "message": "m",
            }
            for n in range(waiting)
        )
        # As after some seconds without any worker: one for each life of the wake flag.
        for sent_ms in range(3):
            wakeups.send(app, get_settings(), busy, sent_ms)
        deployed.start_worker()
        with deployed.client() as client:
            wait_for(
                lambda: client.xlen(keys.inbox(busy)) < waiting, "the long inbox's first batch"
            )
            delays: list[float] = []
            while len(delays) < 3:
                start = time.monotonic()
                enqueue_backup(str(uuid.uuid4()), device, "/ip", None, "m").get(timeout=60)
                if not client.xlen(keys.inbox(busy)):
                    break
                delays.append(time.monotonic() - start)
            print(f"{[round(delay, 2) for delay in delays]} s")
        assert delays, "the long inbox was done too early to tell"
        assert max(delays) < slice_s * 1.2 + 1
        # The test is over; what waits need not be committed.
        for worker in deployed.workers:
            worker.process.kill()
    forget_environment()
