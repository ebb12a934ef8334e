"""A producer as a process of its own: enqueues numbered backups and prints their ids in order.

Usage: python -m tests.integration.producer NUMBER BACKUPS TENANT...
"""

from __future__ import annotations

import json
import sys
import uuid

from confkeep.models import BackupFields
from tasks import enqueue_backup, enqueue_backups


def device_of(tenant: str, producer: int, number: int) -> str:
    return str(uuid.uuid5(uuid.UUID(tenant), f"device {producer} {number % 7}"))


def main() -> None:
    producer, backups = int(sys.argv[1]), int(sys.argv[2])
    tenants = sys.argv[3:]
    sent: dict[str, list[str]] = {tenant: [] for tenant in tenants}
    for number in range(backups):
        tenant = tenants[number % len(tenants)]
        values: BackupFields = {
            "tenant_id": tenant,
            "device_id": device_of(tenant, producer, number),
            # Every fourth is what the device had before: an unchanged backup.
            "export_text": f"# producer {producer}\n/ip address add address=10.0.0.{number // 4}\n",
            "binary_backup": bytes([producer]) * 100 if number % 3 else None,
            "message": f"{producer} {number}",
        }
        # Both ways in, mixed.
        result = enqueue_backups([values])[0] if number % 2 else enqueue_backup(**values)
        sent[tenant].append(result.id)
    json.dump(sent, sys.stdout)


if __name__ == "__main__":
    main()
