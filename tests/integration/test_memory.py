"""A worker's memory is bounded by the batch, not by what waits."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from confkeep.models import BackupFields
from tasks import enqueue_backups
from tests.servers import Deployment

#: The promise for the default limits.
MOST_MIB = 300
LINE = "/ip firewall address-list add list=drop address=10.{}.0.0/16 comment=made-up\n"


def peak_mib(worker: int) -> int:
    """The highest resident memory of a worker's main process and of each of its children."""
    peaks = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if worker in (int(fields["Pid"]), int(fields["PPid"])) and "VmHWM" in fields:
            peaks.append(int(fields["VmHWM"].split()[0]) // 1024)
    assert len(peaks) >= 2
    return max(peaks)


def test_the_largest_backups_and_full_batches_fit(deployed: Deployment) -> None:
    worker = deployed.start_worker()
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    many: list[BackupFields] = [
        {
            "tenant_id": tenant,
            "device_id": str(uuid.uuid4()),
            "export_text": LINE.format(number) * 200,
            "binary_backup": os.urandom(240_000),
            "message": "m",
        }
        for number in range(300)
    ]
    largest: list[BackupFields] = [
        {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": LINE.format(number) * (16 * 2**20 // (len(LINE) + 1)),
            "binary_backup": os.urandom(64 * 2**20),
            "message": "m",
        }
        for number in range(2)
    ]
    for backups in (many, largest[:1], largest[1:]):
        for result in enqueue_backups(backups):
            result.get(timeout=60)
    assert peak_mib(worker.pid) < MOST_MIB
