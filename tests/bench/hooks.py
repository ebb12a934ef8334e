"""Webhooks: how long after the receipt a receiver hears of a backup, and what telling it costs the sender."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

import psutil

from confkeep.settings import get_settings
from tasks import enqueue_backup, enqueue_backups
from tests.bench.producing import producing
from tests.bench.table import Row, at_most
from tests.receiving import Receiver, ok, receiving
from tests.servers import Deployment, wait_for
from worker.engine.events import cursor_from
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hook_store import HookStore
from worker.process.local import Child

#: Backups whose deliveries are timed one by one, after some that warm up; and those in a row.
_ALONE, _WARM, _IN_A_ROW = 150, 10, 2_000
_BAR_S: Final = 1.0
EXPORT = "/system identity\nset name=r{}\n/ip address\nadd address=10.0.0.{}/24 interface=ether1\n"


def rows() -> Iterator[Row]:
    """A hook of all commits, its receiver in this process, and the sender as deployments start it."""
    with producing(CONFKEEP_HOOKS_NETWORKS="127.0.0.1") as deployed, receiving() as receiver:
        came: dict[str, float] = {}
        _note_when(receiver, came)
        with deployed.client() as client:
            hook = Hook.checked(
                name="bench",
                url=receiver.url,
                secret=new_secret().get_secret_value(),
                types=["backup.committed"],
                start=cursor_from(client, None),
            )
            HookStore(client, get_settings()).add(hook)
        deployed.start_worker(concurrency=1)
        sender = _start(deployed)
        try:
            yield _latency(receiver, came)
            yield _cost(receiver, sender)
        finally:
            sender.stop()


def _start(deployed: Deployment) -> Child:
    environment = {**os.environ, "CONFKEEP_LOG_FORMAT": "json"}
    command = [sys.executable, "-m", "confkeep", "hooks", "run"]
    return Child(command, log=deployed.path / "hooks.log", env=environment)


def _note_when(receiver: Receiver, came: dict[str, float]) -> None:
    def note(handler: BaseHTTPRequestHandler) -> None:
        came[handler.headers["webhook-id"]] = time.monotonic()
        ok(handler)

    receiver.always = note


def _backup(number: int) -> dict[str, Any]:
    device = str(uuid.UUID(int=number % 50))
    return {
        "tenant_id": str(uuid.UUID(int=1)),
        "device_id": device,
        "export_text": EXPORT.format(number, number % 250),
        "binary_backup": None,
        "message": "poll",
    }


def _latency(receiver: Receiver, came: dict[str, float]) -> Row:
    told: dict[str, float] = {}
    for number in range(_WARM + _ALONE):
        result = enqueue_backup(**_backup(number))
        result.get(timeout=60)
        told[result.id] = time.monotonic()
        time.sleep(0.02)
    wait_for(lambda: len(came) == len(told), "the deliveries", 60)
    ids = {json.loads(each.body)["data"]["backup_id"]: each.id for each in receiver.requests}
    waits = [came[ids[backup]] - at for backup, at in told.items()][_WARM:]
    middle = statistics.median(waits)
    last = statistics.quantiles(waits, n=100)[98]
    return at_most(
        "webhooks, from the receipt to the delivery, p50, part of 1 s",
        max(0.0, middle) / _BAR_S,
        detail=f"p50 {middle * 1000:,.1f} and p99 {last * 1000:,.1f} ms, {len(waits)} one by one",
    )


def _cost(receiver: Receiver, sender: Child) -> Row:
    process = psutil.Process(sender.process.pid)
    receiver.requests.clear()
    started, used = time.monotonic(), sum(process.cpu_times()[:2])
    for start in range(0, _IN_A_ROW, 100):
        enqueue_backups([_backup(number) for number in range(start, start + 100)])  # type: ignore[misc]
    wait_for(lambda: len(receiver.requests) >= _IN_A_ROW, "the deliveries", 120)
    seconds = time.monotonic() - started
    each = (sum(process.cpu_times()[:2]) - used) / _IN_A_ROW
    return at_most(
        "webhooks, a sender's processor time for each event, part of 10 ms",
        each / 0.01,
        None,
        detail=f"{each * 1000:,.2f} ms, {_IN_A_ROW / seconds:,.0f} events/s beside their commits",
    )
