"""A server whose memory is small: enqueues are refused in time, and workers have what they need."""

from __future__ import annotations

import os
import uuid

import pytest
from celery.result import AsyncResult

from confkeep.broker import keys
from tasks import InboxFull, enqueue_backup
from tests.servers import Deployment, wait_for

_MEMORY = 64 * 1024 * 1024


def test_a_small_memory_is_never_full_of_what_waits(deployed: Deployment) -> None:
    with deployed.client() as client:
        client.config_set("maxmemory", _MEMORY)
        first = deployed.start_worker("first")
        wait_for(lambda: client.exists(keys.ROOM), "the room to be noted")
        # Nobody works for long, and everybody goes on polling.
        first.stop()
        tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
        results: list[AsyncResult] = []
        with pytest.raises(InboxFull, match="the inboxes are full"):
            while len(results) < 100:
                binary = os.urandom(1_000_000)
                results.append(enqueue_backup(tenant, device, "/ip\n", binary, "poll"))
        assert 30 <= len(results) < _MEMORY // 1_000_000

        deployed.start_worker("second")
        for result in results:
            assert result.get(timeout=60)["device_id"] == device
        assert enqueue_backup(tenant, device, "/ip\n", os.urandom(1_000_000), "poll").get(60)
