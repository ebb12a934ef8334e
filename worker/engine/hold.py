"""Holds a tenant outside of its turns: nobody commits meanwhile, and what came meanwhile is woken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from kombu.exceptions import OperationalError

from confkeep.app import app
from confkeep.broker import keys
from confkeep.broker.connections import broker_errors, get_client
from confkeep.errors import BrokerUnavailable
from confkeep.queue import wakeups
from confkeep.settings import Settings
from worker.broker import locks
from worker.engine.untold import Untold
from worker.queue import oddities
from worker.queue.inbox import Inbox

#: Seconds to wait for a turn to end: longer than its slice.
TURN_WAIT_S: Final = 45.0


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
    client = get_client(settings)
    # What stands there for ever is nobody's lock. A turn would set it aside, but none may come.
    oddities.set_aside(client, {keys.lock(tenant_id): keys.EXPIRING})
    lock = locks.wait_for_lock(client, tenant_id, settings.lock_ttl_s, wait_s=wait_s)
    try:
        Untold(settings, tenant_id).tell_left()
        yield
    finally:
        lock.release()
        # The sweep does it later, if Redis is away.
        with contextlib.suppress(BrokerUnavailable, OperationalError):
            _look(Inbox(client, settings, tenant_id))


def _look(inbox: Inbox) -> None:
    """Do a turn's last look in its place: a wake-up that met the held lock relies on one."""
    with broker_errors():
        high = wakeups.clear(inbox.client, inbox.tenant_id)
    if inbox.depth():
        wakeups.send(app, inbox.settings, inbox.tenant_id, high=high)
