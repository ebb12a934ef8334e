"""The tenant lock: one process at a time commits for a tenant.

If the lock of a paused process expires, the compare-and-swap of the tenant's branch decides
(`worker.store.git.refs`).
"""

from __future__ import annotations

import functools
import os
import threading
import time
import uuid

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from confkeep.broker.connections import broker_errors
from confkeep.observe.logs import get_logger
from worker.observe import unforeseen

log = get_logger("locks")


class _Renewer:
    """Renews the locks of one life that a process holds, in a thread that lives while there are any.

    A thread for each lock costs more than all else that a turn does for its lock.
    """

    def __init__(self, ttl_s: float) -> None:
        self._pause_s = ttl_s / 4
        self._lock = threading.Lock()
        self._held: set[TenantLock] = set()
        self._runs = False

    def add(self, lock: TenantLock) -> None:
        """Renew a lock from now on."""
        with self._lock:
            if not self._runs:
                # The system may refuse a thread: then the next lock tries again.
                threading.Thread(target=self._run, name="tenant-lock", daemon=True).start()
                self._runs = True
            self._held.add(lock)

    def discard(self, lock: TenantLock) -> None:
        """Renew a lock no more."""
        with self._lock:
            self._held.discard(lock)

    def _run(self) -> None:
        while True:
            time.sleep(self._pause_s)
            with self._lock:
                held = list(self._held)
                self._runs = bool(held)
            if not held:
                return
            for lock in held:
                lock.renew()


@functools.cache
def _renewer(pid: int, ttl_s: float) -> _Renewer:  # noqa: ARG001 - a child made by fork has no thread yet
    return _Renewer(ttl_s)


class TenantLock:
    """A held tenant lock, renewed until it is released or lost."""

    def __init__(self, lock: Lock, ttl_s: float, token: str = "") -> None:
        self._lock = lock
        #: What stands under the lock's key while we hold it.
        self.token = token
        self._ttl_s = ttl_s
        self._renewed_s = time.monotonic()
        self._is_held, self._is_anothers = True, False
        #: Held while it is renewed: no renewal is under way any more once it is let go of.
        self._renewing = threading.Lock()
        self._renewer = _renewer(os.getpid(), ttl_s)
        self._renewer.add(self)

    @property
    def lost(self) -> bool:
        """Whether the lock could not be renewed: somebody else may hold it by now."""
        return self._is_anothers or time.monotonic() - self._renewed_s > self._ttl_s

    def renew(self) -> None:
        """Renew it once, unless it is let go of or lost. Never raises."""
        with self._renewing:
            if not self._is_held or self.lost:
                return
            try:
                self._lock.reacquire()
                self._renewed_s = time.monotonic()
            except LockError:
                self._is_anothers = True
            except Exception as error:  # noqa: BLE001
                # The next try comes before it expires: the server may be back by then.
                if not isinstance(error, redis.RedisError):
                    # The turns rely on their locks, so the thread must go on renewing them.
                    unforeseen.note(log, "tenant-lock", "renew the lock", error)

    def let_go(self) -> None:
        """Stop renewing: a script has released the lock."""
        self._renewer.discard(self)
        with self._renewing:
            self._is_held = False

    def release(self) -> None:
        """Stop renewing and release the lock, unless it is let go of; a lost one stays with its new owner."""
        if not self._is_held:
            return
        self.let_go()
        try:
            self._lock.release()
        except (LockError, redis.RedisError):
            # It is another's, or expires by itself.
            self._is_anothers = True


def new_token() -> str:
    """A token for a lock that a script takes: no other holder has it."""
    return uuid.uuid4().hex


def hold(client: redis.Redis, key: str, ttl_s: float, token: str) -> TenantLock:
    """A tenant lock that a script has just taken under a token."""
    lock = _lock(client, key, ttl_s)
    lock.local.token = token.encode()
    return TenantLock(lock, ttl_s, token)


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
