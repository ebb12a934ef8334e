"""One worker sweeps for all that serve the same shards: it holds a short lease in Redis.

The others only report themselves, so that many workers cost the server what one does. When the holder dies, its
lease expires, and the next one that looks takes it. Two that sweep at once, after a pause, do no harm: the wake
flag lets one of them send.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from worker.queue.sweep_report import SweepReport

#: Intervals for which a lease lasts, and seconds more, since a sweep itself takes a while: less than a dead worker's
#: tenant locks last by default, so that another one sweeps when they expire.
_INTERVALS: Final = 2
_MORE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Begun:
    """A sweep that a worker has begun."""

    #: The server's clock.
    now_ms: int
    #: Whether this worker is the one that sweeps.
    holds: bool
    #: The id of the store that other workers of these shards commit to, if it is not this worker's.
    other_store: str | None


class SweepLease:
    """A worker's report, and its lease while it has one. Not thread-safe."""

    def __init__(self, client: redis.Redis, name: str, shards: range, interval_s: float) -> None:
        self._client = client
        self._name = name
        self._shards = shards
        self._key = keys.sweep(f"{shards.start}-{shards.stop}-{shards.step}")
        self._interval_ms = int(interval_s * 1000)
        self._life_ms = int((_INTERVALS * interval_s + _MORE_S) * 1000)
        self._token = secrets.token_hex(8)

    def begin(self, trouble: str | None, store_id: str | None) -> Begun:
        """Report this worker, and take or keep the lease if nobody else has it.

        Args:
            trouble: the last unforeseen error of one of its threads.
            store_id: the id of its store; None while it does not know it.

        Raises:
            redis.RedisError: Redis did not answer.
        """
        report = SweepReport(
            self._name, list(self._shards), 0, trouble, store_id, self._interval_ms
        )
        names = [keys.WORKERS, self._key, keys.STORES]
        arguments: list[Any] = [self._name, report.to_json(), self._token, self._life_ms]
        arguments += [store_id or "", *self._shards]
        now_ms, holds, other = scripts.load("sweep").run(self._client, names, arguments)
        return Begun(now_ms, bool(holds), redis_values.name_of(other) or None)

    def leave(self) -> None:
        """Take back the report and the lease, so that another worker sweeps at its next look.

        Raises:
            redis.RedisError: Redis did not answer; the lease expires, and the report is forgotten later.
        """
        names = [keys.WORKERS, self._key]
        scripts.load("leave").run(self._client, names, [self._name, self._token])
