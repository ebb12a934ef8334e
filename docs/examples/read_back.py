"""Read a device's history where the store cannot be reached: the workers answer.

python read_back.py TENANT DEVICE     with CONFKEEP_REDIS_URL set
"""

import base64
import sys
from typing import Any

from confkeep.broker import keys
from confkeep.settings import get_settings
from worker.app import app


def ask(task: str, tenant_id: str, *arguments: object) -> Any:
    """What a task answers, on the tenant's own queue: there its repository is."""
    queue = keys.queue_of(tenant_id, get_settings().shards)
    return app.send_task(task, args=[tenant_id, *arguments], queue=queue).get(timeout=30)


def main(tenant_id: str, device_id: str) -> None:
    versions = ask("backups.history", tenant_id, device_id, 10)
    for version in versions:
        print(version["committed_at"], version["sha"], version["message"])
    newest = versions[0]["sha"]
    export = base64.b64decode(ask("backups.read_file", tenant_id, newest, device_id, "export.rsc"))
    print(export.decode("utf-8", "replace"))


if __name__ == "__main__":
    main(*sys.argv[1:])
