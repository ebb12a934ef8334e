"""Holds a tenant outside of its turns: nobody commits meanwhile, and what came meanwhile is woken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from kombu.exceptions import OperationalError

from confkeep.app import app
from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, TenantLocked
from confkeep.queue import wakeups
from confkeep.settings import Settings
from worker.broker import locks
from worker.broker.locks import TenantLock
from worker.engine.untold import Untold
from worker.observe import measure, metrics
from worker.queue import oddities
from worker.queue.inbox import Inbox

#: Seconds to wait for a turn to end: longer than its slice.
TURN_WAIT_S: Final = 45.0
#: Seconds between two tries.
_POLL_S: Final = 0.05


@contextlib.contextmanager
def hold_tenant(
    settings: Settings, tenant_id: str, *, wait_s: float = TURN_WAIT_S
) -> Iterator[None]:
    """Hold the tenant lock, waiting for it up to `wait_s` seconds; then tell what a killed holder left untold.

    Raises:
        TenantLocked: another process held it all that time.
        BrokerUnavailable: Redis did not answer.
        StoreError: what was left untold cannot be read.
    """
    inbox = Inbox(get_client(settings), settings, tenant_id)
    # What stands there for ever is nobody's lock. A turn would set it aside, but none may come.
    oddities.set_aside(inbox.client, {keys.lock(tenant_id): keys.EXPIRING})
    lock = _wait_for_lock(inbox, wait_s)
    try:
        Untold(settings, tenant_id).tell_left()
        yield
    finally:
        lock.release()
        # The sweep does it later, if Redis is away.
        with contextlib.suppress(BrokerUnavailable, OperationalError):
            _look(inbox)


def _wait_for_lock(inbox: Inbox, wait_s: float) -> TenantLock:
    key, ttl_s = keys.lock(inbox.tenant_id), inbox.settings.lock_ttl_s
    began = time.monotonic()
    while (held := locks.take(inbox.client, key, ttl_s)) is None:
        measure.count(metrics.WORKER_LOCK_BUSY)
        if time.monotonic() >= began + wait_s:
            raise TenantLocked(f"tenant {inbox.tenant_id} is locked by another process")
        time.sleep(_POLL_S)
    measure.observe(metrics.WORKER_LOCK_WAIT, [time.monotonic() - began])
    return held


def _look(inbox: Inbox) -> None:
    """Do a turn's last look in its place: a wake-up that met the held lock relies on one."""
    high = inbox.clear_wake()
    if inbox.depth():
        wakeups.send(app, inbox.settings, inbox.tenant_id, high=high)
