"""The tenant lock: one process at a time commits for a tenant.

If the lock of a paused process expires, the compare-and-swap of the tenant's branch decides
(`worker.store.git.refs`).
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Final

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from confkeep.broker import keys
from confkeep.broker.connections import broker_errors
from confkeep.errors import TenantLocked
from confkeep.observe.logs import get_logger
from worker.observe import measure, metrics, unforeseen

log = get_logger("locks")

#: Seconds between two tries of a caller that waits.
_POLL_S: Final = 0.05


class TenantLock:
    """A held tenant lock, renewed by a thread of its own until it is released or lost."""

    def __init__(self, lock: Lock, ttl_s: float, token: str = "") -> None:
        self._lock = lock
        #: What stands under the lock's key while we hold it.
        self.token = token
        self._ttl_s = ttl_s
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="tenant-lock", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether the lock could not be renewed: somebody else may hold it by now."""
        return self._lost.is_set()

    @property
    def held(self) -> bool:
        """Whether it is neither released nor let go of."""
        return not self._stop.is_set()

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(self._ttl_s / 4):
            try:
                self._lock.reacquire()
                renewed = time.monotonic()
            except LockError:
                self._lost.set()
                return
            except Exception as error:  # noqa: BLE001
                if not isinstance(error, redis.RedisError):
                    # The turn relies on the lock, so this thread must go on renewing it.
                    unforeseen.note(log, "tenant-lock", "renew the lock", error)
                # Try again until the lock has expired: the server may be back before.
                if time.monotonic() - renewed > self._ttl_s:
                    self._lost.set()
                    return

    def let_go(self) -> None:
        """Stop renewing: a script has released the lock."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Stop renewing and release the lock; a lost one stays with its new owner."""
        self.let_go()
        try:
            self._lock.release()
        except LockError:
            self._lost.set()
        except redis.RedisError:
            # It expires by itself.
            self._lost.set()


def new_token() -> str:
    """A token for a lock that a script takes: no other holder has it."""
    return uuid.uuid4().hex


def hold(
    client: redis.Redis, tenant_id: str, token: str, ttl_s: float, *, waited_s: float
) -> TenantLock:
    """A tenant lock that a script has just taken under a token.

    Args:
        waited_s: the seconds that this took.
    """
    measure.observe(metrics.WORKER_LOCK_WAIT, [waited_s])
    lock = _lock(client, keys.lock(tenant_id), ttl_s)
    lock.local.token = token.encode()
    return TenantLock(lock, ttl_s, token)


def wait_for_lock(
    client: redis.Redis, tenant_id: str, ttl_s: float, *, wait_s: float
) -> TenantLock:
    """Take the tenant lock, waiting for it up to `wait_s` seconds.

    Raises:
        TenantLocked: another process held it all that time.
        BrokerUnavailable: Redis did not answer; the lock may be held until it expires.
    """
    began = time.monotonic()
    while (held := _try(client, tenant_id, ttl_s)) is None:
        if time.monotonic() >= began + wait_s:
            raise TenantLocked(f"tenant {tenant_id} is locked by another process")
        time.sleep(_POLL_S)
    measure.observe(metrics.WORKER_LOCK_WAIT, [time.monotonic() - began])
    return held


def _try(client: redis.Redis, tenant_id: str, ttl_s: float) -> TenantLock | None:
    held = take(client, keys.lock(tenant_id), ttl_s)
    if held is None:
        measure.count(metrics.WORKER_LOCK_BUSY)
    return held


def take(client: redis.Redis, key: str, ttl_s: float) -> TenantLock | None:
    """Take a lock, or a lease, if nobody holds it.

    Raises:
        BrokerUnavailable: Redis did not answer; it may be held until it expires.
    """
    lock = _lock(client, key, ttl_s)
    with broker_errors():
        taken = lock.acquire(blocking=False)
    return TenantLock(lock, ttl_s) if taken else None


def _lock(client: redis.Redis, key: str, ttl_s: float) -> Lock:
    # Not thread-local: the renewing thread needs the token too.
    return Lock(client, key, timeout=ttl_s, thread_local=False)
