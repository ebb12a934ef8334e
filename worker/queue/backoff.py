"""Why, and until when, a tenant's commits wait after a fault of the system.

Redis keeps this beside the inbox and not in a message, since a message may be lost with its worker.

Each function that asks Redis raises BrokerUnavailable if it does not answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import ConfkeepError
from worker.observe import measure, metrics
from worker.queue.inbox import LONGEST_WAIT_MS, LONGEST_WAIT_S, Inbox

#: Seconds before the second try. Each further try doubles them.
FIRST_DELAY_S: Final = 1.0
#: Redis forgets a wait that no try renews for so many seconds.
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


@dataclass(frozen=True, slots=True)
class Noted:
    """A failed turn, as it was noted."""

    #: Seconds until the next try.
    delay_s: float
    #: Failed tries since the last turn that succeeded.
    tries: int
    #: The error's class and text.
    reason: str


def get(inbox: Inbox) -> Backoff | None:
    """The tenant's wait; None if its last turn succeeded."""
    return get_many(inbox.client, [inbox.tenant_id]).get(inbox.tenant_id)


def get_many(client: redis.Redis, tenant_ids: Sequence[str]) -> dict[str, Backoff]:
    """The waits of those tenants that have one, in one round trip."""
    pipe = client.pipeline(transaction=False)
    for tenant_id in tenant_ids:
        pipe.hgetall(keys.backoff(tenant_id))
    waits = [parse(fields) for fields in redis_values.answers(pipe)]
    return {
        tenant_id: wait
        for tenant_id, wait in zip(tenant_ids, waits, strict=True)
        if wait is not None
    }


def due(client: redis.Redis, tenant_ids: Sequence[str], grace_ms: int) -> set[str]:
    """Those of the tenants that may try again: they wait after no fault, or have waited long enough.

    Args:
        grace_ms: how much longer they have to wait.
    """
    if not tenant_ids:
        return set()
    names = [keys.backoff(tenant_id) for tenant_id in tenant_ids]
    with broker_errors():
        found = scripts.load("due_tenants").run(client, names, [LONGEST_WAIT_MS, grace_ms])
    return {tenant_id for tenant_id, is_due in zip(tenant_ids, found, strict=True) if is_due}


def urgent_first(waits: Mapping[str, Backoff]) -> list[tuple[str, Backoff]]:
    """Sort waits as a person should look at them: stalled ones first, then the oldest."""
    return sorted(waits.items(), key=lambda item: (not item[1].stalled, item[1].since_ms))


def parse(fields: Mapping[bytes, bytes] | None) -> Backoff | None:
    """The hash's fields as a value; None if no failed try wrote them."""
    if not fields or b"next_ms" not in fields:
        return None

    def moment(name: bytes) -> int:
        return min(max(0, redis_values.number_of(fields.get(name))), redis_values.LAST_MS)

    return Backoff(
        tries=max(0, redis_values.number_of(fields.get(b"tries"))),
        since_ms=moment(b"since_ms"),
        next_ms=moment(b"next_ms"),
        reason=fields.get(b"reason", b"")[:1_000].decode("utf-8", "replace"),
    )


def failed(inbox: Inbox, error: BaseException) -> Noted:
    """Note a failed commit, if anything waits still: another turn may have settled it all.

    Raises:
        BrokerUnavailable: Redis did not answer; nothing was noted.
    """
    # Only of our own errors it is known that they hold no payload.
    reason = type(error).__name__
    if isinstance(error, ConfkeepError):
        reason = f"{reason}: {error}"[:500]
    # Jitter of a quarter: tenants that failed together do not come back together.
    jitter = random.uniform(0.75, 1.0)  # noqa: S311
    delays = [int(FIRST_DELAY_S * 1000), int(LONGEST_WAIT_S * 1000)]
    arguments = [reason, *delays, jitter, FORGET_S, inbox.tenant_id, STALLED_TRIES]
    names = [keys.backoff(inbox.tenant_id), keys.TOTALS, keys.inbox(inbox.tenant_id), keys.EVENTS]
    with broker_errors():
        wait_ms, tries = scripts.load("failed").run(
            inbox.client, names, [*arguments, inbox.settings.events_max]
        )
    measure.count(metrics.WORKER_RETRIED)
    return Noted(int(wait_ms) / 1000, int(tries), reason)


def kick(inbox: Inbox) -> None:
    """Make the next try due at once and count the tries from zero."""
    with broker_errors():
        scripts.load("kick").run(inbox.client, [keys.backoff(inbox.tenant_id)], [])
