"""Lets a call return only when replicas of the server have what it relies on, as CONFKEEP_REPLICAS says.

After a failover the promoted replica knows what it was sent, from the begin up to some moment. So what
two steps of ours wrote one after the other is never there the wrong way round, and only a promise that was
given to somebody outside can break: that a backup is accepted. The worker's own steps need no waiting
(docs/reliability.md says why).

    EVAL      the script
    PUBLISH   to a channel that nobody listens to
    WAIT      until enough replicas have acknowledged the PUBLISH, and so all before it

All on one connection, so that it is one server that answers. The PUBLISH is what WAIT waits for, since it
looks at nothing but what its own connection wrote: a repeated call that finds its backup accepted writes
nothing, and WAIT would return at once. It costs the server no key and no sync of its file.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from confkeep.broker import keys
from confkeep.broker.scripts import Script
from confkeep.errors import TooFewReplicas
from confkeep.settings import Settings
from confkeep.wording import count_text

#: The part of CONFKEEP_REDIS_TIMEOUT_S that replicas get, so that the server answers before we give up.
_PART: Final = 0.5


def run(
    client: redis.Redis, settings: Settings, script: Script, names: list[str], arguments: list[Any]
) -> Any:
    """Run a script, and return its answer when enough replicas have what it wrote or found.

    Raises:
        TooFewReplicas: not in time; what it wrote is written.
        redis.RedisError: the server did not answer, or refused.
    """
    if not settings.replicas:
        return script.run(client, names, arguments)
    pipe = client.pipeline(transaction=False)
    # Its text and not its name: a new master does not know it, and would let us wait twice.
    pipe.eval(script.text, len(names), *names, *arguments)
    pipe.publish(keys.MARK, b"")
    # 0 would wait for ever.
    pipe.wait(settings.replicas, max(1, int(settings.redis_timeout_s * _PART * 1000)))
    answer, _, have = pipe.execute()
    check(have, settings)
    return answer


def check(have: int, settings: Settings) -> None:
    """Refuse an answer that only `have` replicas have.

    Raises:
        TooFewReplicas: what it wrote is written.
    """
    if have < settings.replicas:
        raise TooFewReplicas(
            f"CONFKEEP_REPLICAS asks for {count_text(settings.replicas, 'replica')} to confirm it, and "
            f"{have} did in time"
        )
