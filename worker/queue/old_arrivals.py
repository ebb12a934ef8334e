"""Accept what producers of an earlier release left for a worker to admit. Goes with release 0.2.

Those were producers whose user could only add. They left the bytes in `confkeep:arrived:<tenant>:<name>`, an
arrival at the tail of the list `confkeep:arrivals:<tenant>`, and the tenant's mark in the hash
`confkeep:arriving`. An arrival leaves its list after it is in the inbox, so that repeating is safe.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotSigned, PoisonedBackup
from confkeep.queue import acceptance
from confkeep.queue.acceptance import Submission
from confkeep.queue.entry import Entry, check_signature
from confkeep.settings import Settings

_MARKS: Final = keys.PREFIX + "arriving"
#: Forget a tenant without arrivals, and the marks with the last one: two fields hold sums.
_FORGET: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[3])
  if redis.call('HLEN', KEYS[2]) <= 2 then redis.call('DEL', KEYS[2]) end
end
"""


def pattern(tenant_id: str) -> str:
    """The pattern of all that a tenant's producers left."""
    return f"{keys.PREFIX}arriv*:{tenant_id}*"


def tenants(client: redis.Redis) -> list[str]:
    """The tenants that have arrivals.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hkeys(_MARKS)
    (marks,) = redis_values.answers(pipe)
    return [tenant for tenant in map(redis_values.tenant_of, marks or ()) if tenant is not None]


def accept(client: redis.Redis, settings: Settings, tenant_id: str, most: int) -> int:
    """Put a tenant's oldest arrivals into its inbox, in order, up to `most` or a limit on what may wait.

    What cannot be read, or came under another backup's id, becomes a dead letter when a turn reads it.

    Returns:
        How many left the list.

    Raises:
        BrokerUnavailable: some may have been accepted; call again.
    """
    arrivals = f"{keys.PREFIX}arrivals:{tenant_id}"
    taken = 0
    with broker_errors():
        while taken < most:
            text: Any = client.lindex(arrivals, 0)
            if text is None:
                names = (arrivals, _MARKS, f"{_MARKS}:{tenant_id}")
                client.eval(_FORGET, len(names), *names, tenant_id)
                break
            if not _accept(client, settings, tenant_id, text):
                break
            client.lrem(arrivals, 1, text)
            taken += 1
    return taken


def _accept(client: redis.Redis, settings: Settings, tenant_id: str, text: bytes) -> bool:
    """Whether an arrival is in the inbox now."""
    try:
        arrival = redis_values.object_of(text)
        written, bytes_key = arrival["entry"], f"{keys.PREFIX}arrived:{tenant_id}:{arrival['name']}"
        entry = Entry.from_json(written)
        check_signature(settings, tenant_id, written.encode(), arrival["signature"])
    except NotSigned:
        # Accept it as it is, without a signature of ours: the turn buries what nobody signed.
        settings = settings.model_copy(update={"signing_key": None, "keyring": None})
    except (ValueError, TypeError, LookupError, AttributeError, PoisonedBackup):
        return _leave_to_a_person(client, tenant_id, text)
    data: Any = client.get(bytes_key)
    [answer] = acceptance.accept(client, settings, [Submission(tenant_id, entry, data)])
    if answer.outcome in ("conflict", "garbled"):
        return _leave_to_a_person(client, tenant_id, text)
    if answer.outcome not in ("accepted", "waiting", "done"):
        return False
    client.delete(bytes_key)
    return True


def _leave_to_a_person(client: redis.Redis, tenant_id: str, text: bytes) -> bool:
    client.xadd(keys.inbox(tenant_id), {"entry": text})
    now: Any = client.time()
    client.zadd(keys.WAITING, {tenant_id: now[0] * 1000}, nx=True)
    return True
