"""A producer as a process of its own; it keeps a synced record of what it was promised.

Usage: python -m tests.chaos.producer RECORD SEED TENANT...

It ends in order at SIGTERM, after the call that it is in came through. The record has one JSON
list a line: `["sent", tenant, ids]` before a call, `["accepted", tenant, ids]` after it. An id that
was sent and not accepted has an unknown outcome. `["late", tenant, ids]` comes before a call that was
given up is made once more, some time later.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import sys
import time
import uuid
from operator import itemgetter
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError

from confkeep.errors import QueueError
from tasks import enqueue_backup, enqueue_backups
from worker.app import app

_DEVICES = 6
#: Seconds that a call is repeated before the producer takes it that something is broken.
_PATIENCE_S = 60.0
#: Seconds until a call that was given up is made once more.
_LATE_S = (1.0, 12.0)

Values = Any


class Producer:
    """Sends at random, by a seed, and gives up now and then."""

    def __init__(self, record: Path, seed: str, tenants: list[str]) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._random = random.Random(seed)
        self._tenants = tenants
        self._last: dict[str, Values] = {}
        self._earlier: list[Values] = []
        #: Calls with an unknown outcome that are made once more, and when, by the monotonic clock.
        self._given_up: list[tuple[float, list[Values]]] = []
        self._number = 0
        self.ending = False

    def run(self) -> None:
        while not self.ending:
            tenant = self._random.choice(self._tenants)
            many = 1 if self._random.random() < 0.7 else self._random.randrange(2, 40)
            self._send([self._backup(tenant) for _ in range(many)])
            if self._earlier and self._random.random() < 0.03:
                # Once more, some time later: must change nothing.
                self._send([self._random.choice(self._earlier)])
            if self._given_up and self._given_up[0][0] < time.monotonic():
                _, again = self._given_up.pop(0)
                self._note("late", again[0]["tenant_id"], [v["backup_id"] for v in again])
                self._send(again)
            if self._random.random() < 0.02:
                self._send_by_name(self._backup(tenant))
            time.sleep(self._random.uniform(0, 0.06))

    def _backup(self, tenant: str) -> Values:
        r = self._random
        self._number += 1
        device = str(uuid.uuid5(uuid.UUID(tenant), f"device {r.randrange(_DEVICES)}"))
        last = self._last.get(device)
        unchanged = last is not None and r.random() < 0.25
        lines = [f"add address=10.{r.randrange(256)}.0.{n}" for n in range(r.randrange(1, 60))]
        values = {
            "tenant_id": tenant,
            "device_id": device,
            "export_text": last["export_text"] if last and unchanged else "\n".join(lines),
            "binary_backup": (
                last["binary_backup"]
                if last and unchanged
                else r.randbytes(r.randrange(4000))
                if r.random() < 0.7
                else None
            ),
            "message": f"{self._number} of {os.getpid()}",
            "captured_at": dt.datetime.now(dt.UTC) if r.random() < 0.5 else None,
            "backup_id": str(uuid.UUID(int=r.getrandbits(128), version=4)),
        }
        self._last[device] = values
        return values

    def _send(self, backups: list[Values]) -> None:
        tenant = backups[0]["tenant_id"]
        ids = [values["backup_id"] for values in backups]
        self._note("sent", tenant, ids)
        deadline = time.monotonic() + _PATIENCE_S
        patient = self._random.random() < 0.7
        while True:
            try:
                if len(backups) == 1 and self._random.random() < 0.5:
                    [values] = backups
                    results = [enqueue_backup(**values)]
                else:
                    results = enqueue_backups(backups)
                break
            except QueueError:
                if not patient or self._random.random() < 0.03:
                    if self._random.random() < 0.8:
                        due_s = time.monotonic() + self._random.uniform(*_LATE_S)
                        self._given_up = sorted(
                            [*self._given_up, (due_s, backups)], key=itemgetter(0)
                        )
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(self._random.uniform(0.01, 0.2))
        assert [result.id for result in results] == ids
        self._note("accepted", tenant, ids)
        self._earlier = [*self._earlier[-100:], *backups[:2]]

    def _send_by_name(self, values: Values) -> None:
        """By a message, whose fate nobody knows."""
        backup = {**values, "export_text": values["export_text"], "captured_at": None}
        del backup["binary_backup"], backup["backup_id"]
        self._note("sent", values["tenant_id"], [values["backup_id"]])
        try:
            app.send_task(
                "backups.receive",
                kwargs=backup,
                task_id=values["backup_id"],
                queue="backups.receive",
                ignore_result=True,
                retry=False,
            )
        except OperationalError:
            return

    def _note(self, what: str, tenant: str, ids: list[str]) -> None:
        os.write(self._record, json.dumps([what, tenant, ids]).encode() + b"\n")
        os.fsync(self._record)


def main() -> None:
    producer = Producer(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

    def end(*_: object) -> None:
        producer.ending = True

    signal.signal(signal.SIGTERM, end)
    producer.run()


if __name__ == "__main__":
    main()
