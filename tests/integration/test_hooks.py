"""Webhooks with all real parts: soon after the receipt, in git's order, and again after a killed sender."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from confkeep import enqueue_backup
from confkeep.broker import keys
from confkeep.settings import get_settings
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import backup_ids
from tests.planted import SECRET
from tests.receiving import ok, receiving
from tests.servers import Deployment, deployment, wait_for
from worker.engine.events import cursor_from
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hook_store import HookStore
from worker.process.local import Child

TENANT = str(uuid.uuid4())


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    short = {"CONFKEEP_HOOKS_NETWORKS": "127.0.0.1", "CONFKEEP_LOCK_TTL_S": "1"}
    with deployment(tmp_path, **short) as running:
        become_producer(running, monkeypatch)
        running.start_worker(pool="threads")
        yield running
    forget_environment()


def sender(running: Deployment) -> Child:
    return Child(
        [sys.executable, "-P", "-m", "confkeep", "hooks", "run"],
        log=running.path / "hooks.log",
        env={**os.environ, **running.environment},
    )


def commit(number: int) -> float:
    """Commit a backup; returns when its receipt came."""
    device = str(uuid.uuid5(uuid.UUID(TENANT), f"{number % 5}"))
    enqueue_backup(TENANT, device, f"/ip address\nadd n={number}\n", None, "m").receipt(30)
    return time.monotonic()


def test_each_commit_is_told_soon_in_order_and_again_after_a_kill(running: Deployment) -> None:
    came: list[float] = []

    def take(handler: BaseHTTPRequestHandler) -> None:
        came.append(time.monotonic())
        ok(handler)

    with receiving() as receiver, running.client() as client:
        receiver.always = take
        store = HookStore(client, get_settings())
        secret = new_secret()
        url = f"{receiver.url}?key={SECRET}"
        start = cursor_from(client, None)
        store.add(Hook.checked(name="portal", url=url, secret=secret, start=start))
        sends = sender(running)
        try:
            wait_for(lambda: client.exists(keys.HOOKS_LEASE), "the sender")
            lags = []
            for number in range(15):
                receipt_s = commit(number)
                wait_for(lambda number=number: len(came) > number, "the delivery")  # type: ignore[misc]
                lags.append(came[number] - receipt_s)
            assert statistics.median(lags) < 1.0
            sends.process.kill()
            sends.process.wait()
            for number in range(15, 20):
                commit(number)
        finally:
            sends.stop()
        again = sender(running)
        try:
            wait_for(lambda: len(set(receiver.ids)) == 20, "what came while nobody sent")
        finally:
            again.stop()
        told = [request.verified(secret.get_secret_value()) for request in receiver.requests]
        first_times = list({event["id"]: event["data"]["backup_id"] for event in told}.values())
        assert first_times == backup_ids(running.store / f"{TENANT}.git")
        for event in told:
            assert "add n=" not in json.dumps(event), "no text of a configuration"
        assert not client.exists(keys.HOOKS_LEASE), "one that ends in order lets another one go on"
