"""A portal that keeps its own table of devices in step with what is committed, by a cursor.

python portal_table.py     with CONFKEEP_REDIS_URL set; the table is in ./portal.sqlite3

Run it by cron, or as often as you like: it goes on where it was. It may be away for a month, and Redis may be
emptied meanwhile: git tells what is missing.
"""

import sqlite3

from confkeep import Event, events

TYPES = ("backup.committed", "device.renamed", "device.forgotten")


def main() -> None:
    database = sqlite3.connect("portal.sqlite3")
    with database:
        database.execute(
            "create table if not exists devices (id text primary key, tenant text, name text, "
            "sha text, changed_at text)"
        )
        database.execute("create table if not exists place (one integer primary key, cursor text)")
    row = database.execute("select cursor from place").fetchone()
    for event in events(row and row[0], types=TYPES, follow=False):
        # Row and cursor in one transaction: whatever dies, each event counts once.
        with database:
            if event.type == "device.forgotten":
                database.execute("delete from devices where id = ?", (event.device_id,))
            elif event.device_id is not None:
                note(database, event)
            database.execute("insert or replace into place values (1, ?)", (event.cursor,))


def note(database: sqlite3.Connection, event: Event) -> None:
    """Keep a device's name, and its newest commit that changed the configuration."""
    database.execute(
        "insert or ignore into devices (id, tenant) values (?, ?)",
        (event.device_id, event.tenant_id),
    )
    name = event.data.get("device_name")
    database.execute("update devices set name = ? where id = ?", (name, event.device_id))
    if event.data.get("export_changed"):
        change = (event.data["sha"], event.at.isoformat(), event.device_id)
        database.execute("update devices set sha = ?, changed_at = ? where id = ?", change)


if __name__ == "__main__":
    main()
