"""A trigger that answers with the commit's id: a row first, then the enqueue, then a bounded wait.

python wait_for_commit.py DEVICE WAIT_S     with CONFKEEP_REDIS_URL set; rows are in ./portal.sqlite3
"""

import asyncio
import datetime as dt
import sqlite3
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from confkeep import NoReceipt, enqueue_backup, receipt

TENANT = "aaaa1111-0000-4000-8000-000000000002"

#: Our own threads: an enqueue waits for Redis, and would block others in asyncio's own executor.
senders = ThreadPoolExecutor(8, thread_name_prefix="confkeep")


def capture(device_id: str) -> tuple[str, bytes | None]:
    """Your code: SSH, API ... This one makes something up."""
    header = f"# {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} by RouterOS 7.16"
    return f"{header}\n/system identity\nset name={device_id[:8]}\n", None


async def back_up(database: sqlite3.Connection, device_id: str, wait_s: float) -> str:
    """Back up a device because somebody asked; the row's state, as the caller is told it."""
    backup_id = str(uuid.uuid4())
    # Write the row first: whatever dies from here on, the portal knows which id to ask for.
    with database:
        database.execute("insert into captures values (?, ?, 'sending')", (backup_id, device_id))
    beside = partial(asyncio.get_running_loop().run_in_executor, senders)
    export, binary = await beside(capture, device_id)
    send = partial(enqueue_backup, TENANT, device_id, export, binary, "asked for")
    # Let the caller see errors of this call: docs/integrate.md says which may be repeated.
    await beside(partial(send, backup_id=backup_id))
    try:
        state = (await receipt(backup_id, timeout=wait_s)).sha
    except NoReceipt:
        # This is no failure: the backup is accepted, and a worker will commit it. Answer 202, and write the
        # commit's id into the row when the receipt is there (`collect` of asyncio_poller.py).
        state = "accepted"
    with database:
        database.execute("update captures set state = ? where id = ?", (state, backup_id))
    return state


if __name__ == "__main__":
    rows = sqlite3.connect("portal.sqlite3")
    rows.execute(
        "create table if not exists captures (id text primary key, device text, state text)"
    )
    print(asyncio.run(back_up(rows, sys.argv[1], float(sys.argv[2]))))
