"""Why and until when a tenant's commits wait after a fault of the system; it sends nothing.

The state lies beside the inbox, not in a message: a message may get lost with its worker.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

import redis

from worker import keys
from worker.connections import broker_errors

#: Seconds before the second try; doubled at each further one.
FIRST_DELAY_S: Final = 1.0
#: Most seconds between two tries; far below the broker's visibility timeout.
LONGEST_DELAY_S: Final = 60.0
#: Seconds after which a wait is forgotten that no try has renewed.
FORGET_S: Final = 86_400
#: Tries after which an inbox is reported as stalled.
STALLED_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Backoff:
    """A tenant's wait. Times in ms since 1970, by the server's clock."""

    tries: int
    since_ms: int
    next_ms: int
    #: The error's class and text.
    reason: str

    @property
    def stalled(self) -> bool:
        """Whether a person should look."""
        return self.tries >= STALLED_TRIES


def delay_s(tries: int) -> float:
    """Seconds to wait after the `tries`-th failure: doubling, with jitter of 25 %, bounded."""
    doubled: float = FIRST_DELAY_S * 2 ** min(tries - 1, 16)
    return min(LONGEST_DELAY_S, doubled) * random.uniform(0.75, 1.0)  # noqa: S311


def get(client: redis.Redis, tenant_id: str) -> Backoff | None:
    """The tenant's wait; None when its last commit succeeded.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        found: Any = client.hgetall(keys.backoff(tenant_id))
    return parse(found)


def parse(fields: dict[bytes, bytes]) -> Backoff | None:
    """The hash's fields as a value; None when there are none."""
    if not fields:
        return None
    return Backoff(
        tries=int(fields[b"tries"]),
        since_ms=int(fields[b"since_ms"]),
        next_ms=int(fields[b"next_ms"]),
        reason=fields[b"reason"].decode("utf-8", "replace"),
    )


def failed(client: redis.Redis, tenant_id: str, error: BaseException) -> float:
    """Note a failed commit.

    Returns:
        Seconds until the next try.

    Raises:
        BrokerUnavailable: Redis did not answer; nothing was noted.
    """
    name = keys.backoff(tenant_id)
    with broker_errors():
        now: Any = client.time()
        now_ms = now[0] * 1000 + now[1] // 1000
        tries = int(client.hincrby(name, "tries", 1))
        delay = delay_s(tries)
        pipe = client.pipeline(transaction=True)
        pipe.hsetnx(name, "since_ms", str(now_ms))
        pipe.hset(
            name,
            mapping={
                "next_ms": str(now_ms + int(delay * 1000)),
                "reason": f"{type(error).__name__}: {error}"[:500],
            },
        )
        pipe.expire(name, FORGET_S)
        pipe.execute()
    return delay


def clear(client: redis.Redis, tenant_id: str) -> None:
    """Let the next try come at once.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with broker_errors():
        client.delete(keys.backoff(tenant_id))
