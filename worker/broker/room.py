"""How much may wait in the server's memory: workers note it, producers keep to it.

A server at its `maxmemory` refuses what workers need too, so nothing would be committed until a person
raises it. The script that accepts therefore looks at this note beside the limit in its caller's settings:
what is above a part of the memory is refused with `InboxFull`, and the rest stays for records, the workers
and Celery.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from confkeep.broker import keys
from confkeep.broker.connections import broker_errors
from confkeep.errors import BrokerUnavailable
from confkeep.settings import Settings

#: The part of the server's memory that waiting bytes may take. They are counted as they came; deflated
#: they take less, but each backup takes some 2 kB more, and its record stays.
PART: Final = 0.6


def note(client: redis.Redis, settings: Settings) -> int | None:
    """Note how many bytes may wait in the server's memory, or that there is no limit.

    Returns:
        The bytes; None if there is no limit, the server does not tell, or what waits is on a volume.

    Raises:
        BrokerUnavailable: it did not answer.
    """
    try:
        with broker_errors():
            told: Any = client.info("memory")
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, redis.ResponseError):
            return None
        raise
    most = int(int(told.get("maxmemory", 0)) * PART) if settings.staging == "redis" else 0
    with broker_errors():
        if most:
            client.set(keys.ROOM, most)
        else:
            client.delete(keys.ROOM)
    return most or None
