"""The sweep: one worker looks for forgotten inboxes of its shards and wakes them.

Wake-ups get lost with killed workers and brokers. The sweep makes that cost seconds: an inbox with
entries, without a fresh wake-up, a held lock or a running backoff, is woken. Of the workers that serve
the same shards one sweeps, which `worker.queue.sweep_lease` chooses; the others report that they live.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import redis
from celery import Celery

from confkeep.broker import broker_faults, keys
from confkeep.errors import StoreNotShared, StoreUnavailable
from confkeep.observe.logs import get_logger
from confkeep.queue import event_stream, wakeups
from confkeep.settings import Settings
from worker.broker import received, room
from worker.observe import unforeseen
from worker.process import own_store
from worker.process.workers import forget_workers
from worker.queue import backoff, inboxes, oddities, strays, tidy
from worker.queue.inbox import Inbox
from worker.queue.sweep_lease import SweepLease

log = get_logger("sweeper")

#: Milliseconds that a retry's own message gets before the sweep takes its place.
_RETRY_GRACE_MS = 2_000
#: Tenants that are asked about in one round trip.
_TENANTS_AT_ONCE = 1_000
#: Most messages of a queue that are looked through.
_MOST_READ = 2_000
#: Seconds of each sweep for the hourly tidying, while it is under way.
_TIDY_S = 0.2
#: Look for what is rare at every so many sweeps: it costs twice as many commands as all else.
_CLOSE_LOOK_EVERY = 5
#: Seconds between two looks for backups that came the wrong way.
_STRAYS_EVERY_S = 10.0


class Sweeper:
    """Sweeps with a client of its own. Not thread-safe."""

    def __init__(self, app: Celery, settings: Settings, client: redis.Redis, name: str) -> None:
        self._app = app
        self._settings = settings
        self._client = client
        self._name = name
        #: The rest of a tidying that is under way, and how much it has deleted so far.
        self._tidying: Iterator[int] | None = None
        self._deleted = 0
        self._has_noted_room = False
        #: What was set aside and is logged already.
        self._told: frozenset[oddities.Oddity] = frozenset()
        self._look_for_strays_at = 0.0
        #: Sweeps since the lease was taken.
        self._sweeps = 0
        shards = own_store.shards_of(settings)
        self._shards = frozenset(shards)
        self._lease = SweepLease(client, name, shards, settings.sweep_interval_s)

    def sweep(self) -> int:
        """Report this worker, and look once if it is the one that sweeps.

        Returns:
            The number of wake-ups that were sent.

        Raises:
            StoreNotShared: other workers of its shards commit to another store.
            redis.RedisError, kombu.exceptions.OperationalError, BrokerUnavailable: Redis did not
                answer.
        """
        begun = self._lease.begin(unforeseen.last(), self._store_id())
        if begun.other_store is not None:
            raise StoreNotShared(
                f"the workers of its shards commit to the store {begun.other_store[:8]}, and "
                f"{self._settings.git_store_path} is another one"
            )
        if not begun.holds:
            self._sweeps = 0
            return 0
        now_ms = begun.now_ms
        closely = self._sweeps % _CLOSE_LOOK_EVERY == 0
        self._sweeps += 1
        if closely:
            # First: commands on a key of another type would fail.
            oddities.set_aside(self._client, keys.TYPES)
            with self._apart("begin the stream of events"):
                event_stream.begin(self._client)
        sent = 0
        for shard, tenants in self._forgotten(now_ms).items():
            with self._apart("wake the tenants of a shard"):
                sent += self._wake(shard, tenants, now_ms)
        if closely:
            with self._apart("tell what was set aside"):
                self._tell_odd()
        if closely or self._tidying is not None:
            with self._apart("tidy the staging"):
                self._tidy()
        if not self._has_noted_room:
            self._note_room()
        with self._apart("look for strays"):
            self._look_for_strays()
        return sent

    @contextlib.contextmanager
    def _apart(self, what: str) -> Iterator[None]:
        """Go on with the rest of the sweep, whatever this part meets: it must cost no other tenant.

        Anybody may write to the server, so one part may meet an unforeseen error while the others
        go on. Only when the server is away, or refuses to write, no other part could do better.
        """
        try:
            yield
        except Exception as error:
            if broker_faults.is_outage(error):
                raise
            unforeseen.note(log, "sweeper", what, error)

    def _tell_odd(self) -> None:
        """Log once what was set aside, by this worker or by a script."""
        found = oddities.notes(self._client)
        for note in found:
            if note not in self._told:
                log.error(
                    f"{note.key}: {note.problem}",
                    action="sweep.set_aside",
                    hint=note.step,
                )
        self._told = frozenset(found)

    def _look_for_strays(self) -> None:
        """Done by the worker of the first shard alone."""
        if 0 not in self._shards or time.monotonic() < self._look_for_strays_at:
            return
        self._look_for_strays_at = time.monotonic() + _STRAYS_EVERY_S
        strays.tell(self._client, self._settings.receipt_ttl_s)
        lost = received.bring_back(self._client)
        if lost:
            log.warning(
                "put taken messages back into the index that lacked them",
                action="sweep.unacked",
                lost=lost,
            )

    def _note_room(self) -> None:
        """Done at the first sweep and each tidying, since the server's memory may change."""
        room.note(self._client, self._settings)
        self._has_noted_room = True

    def _tidy(self) -> None:
        """Go on with the hourly tidying for a moment: it may be long, and the next sweep is due."""
        if self._tidying is None:
            if not tidy.is_due(self._client):
                return
            self._note_room()
            with self._apart("forget dead workers"):
                forget_workers(self._client)
            self._deleted = tidy.drop_foreign_queues(self._client, self._settings)
            self._tidying = tidy.steps(self._client, self._settings)
            if self._settings.stale_hours:
                with self._apart("ask for stale devices"):
                    wakeups.ask_for_stale(self._app, self._settings)
        end = time.monotonic() + _TIDY_S
        steps, self._tidying = self._tidying, None
        for deleted in steps:
            self._deleted += deleted
            if time.monotonic() > end:
                self._tidying = steps
                return
        log.info("finished the hourly tidying", action="sweep.tidied", deleted=self._deleted)

    def leave(self) -> None:
        """Take back the report and the lease: the worker ended in order, and another one sweeps.

        Raises:
            redis.RedisError: Redis did not answer.
        """
        self._lease.leave()

    def _store_id(self) -> str | None:
        """The store's id; None while it cannot be read."""
        known = own_store.known_id(self._settings)
        if known is None:
            with contextlib.suppress(StoreUnavailable):
                known = own_store.settle(self._client, self._settings, self._name)
        return known

    def _forgotten(self, now_ms: int) -> dict[int, list[tuple[str, bytes | None]]]:
        """By shard, the tenants that wait without a fresh flag, a lock or a backoff; with their
        flags."""
        found: dict[int, list[tuple[str, bytes | None]]] = {}
        own = []
        for tenant in inboxes.waiting_tenants(self._client):
            shard = keys.shard_of(tenant, self._settings.shards)
            if shard in self._shards:
                own.append((shard, tenant))
        for start in range(0, len(own), _TENANTS_AT_ONCE):
            chunk = own[start : start + _TENANTS_AT_ONCE]
            # Two commands for all: one for each tenant took most of a sweep's time.
            flags: Any = self._client.mget([keys.wake(tenant) for _shard, tenant in chunk])
            locks: Any = self._client.mget([keys.lock(tenant) for _shard, tenant in chunk])
            held = [
                tenant for (_, tenant), lock in zip(chunk, locks, strict=True) if lock is not None
            ]
            if held:
                # A lock without an expiry is nobody's.
                oddities.set_aside(
                    self._client, {keys.lock(tenant): keys.EXPIRING for tenant in held}
                )
                self._shorten(held)
            alone = [
                (shard, tenant, flag)
                for (shard, tenant), flag, lock in zip(chunk, flags, locks, strict=True)
                if lock is None and not self._is_fresh(flag, now_ms)
            ]
            due = backoff.due(self._client, [tenant for _, tenant, _ in alone], _RETRY_GRACE_MS)
            for shard, tenant, flag in alone:
                if tenant in due:
                    found.setdefault(shard, []).append((tenant, flag))
        return found

    def _is_fresh(self, flag: bytes | None, now_ms: int) -> bool:
        """Whether its wake-up was sent lately. A time in the future does not count."""
        if flag is None:
            return False
        return 0 <= now_ms - wakeups.sent_at(flag) < self._settings.wake_ttl_s * 1000

    def _shorten(self, tenants: list[str]) -> None:
        """Shorten locks that outlive the settings: the server's clock may have been set back.

        An owner that lives renews its lock.
        """
        pipe = self._client.pipeline(transaction=False)
        for tenant in tenants:
            pipe.pexpire(keys.lock(tenant), int(self._settings.lock_ttl_s * 1000), lt=True)
        pipe.execute()

    def _wake(self, shard: int, tenants: list[tuple[str, bytes | None]], now_ms: int) -> int:
        """Wake the tenants whose wake-up is no longer in the queue.

        A wake-up that still waits in a long queue is not sent again, which would make it longer. A
        queue too long to read is not looked through: there, only tenants without a flag are woken.
        """
        queued = wakeups.queued(self._client, shard, _MOST_READ)
        sent = 0
        for tenant, flag in tenants:
            if queued is None:
                lost = flag is None or wakeups.sent_at(flag) > now_ms
            else:
                lost = tenant not in queued
            with self._apart("wake a tenant"):
                if lost and Inbox(self._client, self._settings, tenant).claim_wake(flag, now_ms):
                    # A key of another type would make the turn fail.
                    oddities.set_aside(self._client, keys.types_of(tenant))
                    high = wakeups.high_upto(flag) is not None
                    wakeups.send(self._app, self._settings, tenant, now_ms, high=high)
                    sent += 1
        return sent
