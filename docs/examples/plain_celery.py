"""Hand over backups without confkeep's package: only Celery and the broker's URL.

python plain_celery.py [DATE]       with BROKER_URL set, such as redis://localhost:6379/0; of a server that
`confkeep up` runs, Celery wants redis+socket:///... for unix:///...
"""

import base64
import datetime as dt
import json
import os
import sys
import uuid

from celery import Celery
from celery.exceptions import TimeoutError as NoAnswer
from celery.result import AsyncResult

TENANT = "aaaa2222-0000-4000-8000-000000000001"
DEVICE = "beef2222-0000-4000-8000-000000000001"


def hand_over(
    portal: Celery, backup_id: str, export: bytes, binary: bytes, polled_at: dt.datetime
) -> AsyncResult:
    """Send one backup."""
    return portal.send_task(
        "backups.receive",
        # Without it Celery sends to its default queue, where no worker of confkeep reads.
        queue="backups.receive",
        kwargs={
            "backup_id": backup_id,
            "tenant_id": TENANT,
            "device_id": DEVICE,
            "message": "hourly poll",
            "export_base64": base64.b64encode(export).decode(),  # any bytes; or "export_text"
            "binary_base64": base64.b64encode(binary).decode(),
            "captured_at": polled_at.isoformat(),
        },
        # Without these, Celery also writes the export into the message's headers, where monitors show it.
        argsrepr="()",
        kwargsrepr=f"{{'device_id': '{DEVICE}'}}",
    )


def main() -> None:
    url = os.environ["BROKER_URL"]
    portal = Celery("portal", broker=url, backend=url, set_as_current=False)
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    polled_at = dt.datetime.fromisoformat(sys.argv[1]) if sys.argv[1:] else hour
    # A binary backup begins with its kind and its size, and is never the same twice.
    binary = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + os.urandom(8)
    export = b"# by RouterOS 7.16\n/system identity\nset name=caf\xe9\n"
    # The same poll always has the same id, and is committed once.
    backup_id = str(uuid.uuid5(uuid.UUID(DEVICE), polled_at.isoformat()))
    # A Celery message may get lost with a connection. Until there is a receipt, send it again.
    for _ in range(5):
        # The receipt lands under the task's id and under the backup's.
        result = hand_over(portal, backup_id, export, binary, polled_at)
        try:
            print(json.dumps(result.get(timeout=30)))
        except NoAnswer:
            # If this repeats, no worker runs or the queue's name is wrong: `confkeep status` shows both.
            print("no receipt yet; sending it again")
        except Exception as error:  # noqa: BLE001 - confkeep's classes are not known here
            if type(error).__name__ == "BackupIdConflict":
                # The poll was handed over before, with another capture. Print the receipt of that one:
                print(json.dumps(AsyncResult(backup_id, app=portal).get(timeout=30)))
            else:
                # Such as InvalidBackup, which names the field and its limit. It would be refused again.
                print(f"{type(error).__name__}: {error}")
            break
        else:
            break


if __name__ == "__main__":
    main()
