"""Raw messages and garbage in Redis that no client of ours would send."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Callable

import redis

from confkeep.broker import keys
from tests.hostile_messages import Hostile

_NO_UTF8 = b"\xff\xfe\x00 no text"
_IDS = "bad00000-0000-4000-8000-"
#: How the ids of tenants begin that nobody has.
_NOBODY = "badbadba-"


def made_of_garbage(backup_id: str) -> bool:
    """Whether a dead letter is what a worker made of an entry that it could not read."""
    return backup_id.startswith(f"unreadable-{_NOBODY}")


def left_by_hostility(name: str) -> bool:
    """Whether a key is what bad messages and garbage may leave: set aside, or their own results."""
    return name.startswith(
        (f"{keys.PREFIX}refused", f"{keys.PREFIX}odd", keys.result(_IDS)),
    )


def send(client: redis.Redis, chance: random.Random) -> str:
    """Put a bad message into the queue that anybody may send to. Returns its kind."""
    kind = chance.choice(list(_MESSAGES))
    client.lpush(keys.RECEIVE_QUEUE, _MESSAGES[kind]())
    return kind


class Garbage:
    """What does not belong under the keys of tenants that nobody has, and into what all share."""

    def __init__(self, client: redis.Redis, chance: random.Random) -> None:
        self._random = chance
        self._tenant = _NOBODY + str(uuid.UUID(int=chance.getrandbits(96)))[len(_NOBODY) :]
        self._field = f"garbage {self._tenant}"
        self._keys: list[bytes] = []
        self._plant(client)

    def _plant(self, client: redis.Redis) -> None:
        kinds = (keys.inbox, keys.backoff, keys.attempts, keys.lock)
        name = self._random.choice(kinds)(self._tenant).encode()
        nameless = keys.inbox("").encode() + _NO_UTF8
        self._keys = [name, nameless]
        match self._random.randrange(4):
            case 0:
                client.set(name, _NO_UTF8)
            case 1:
                client.rpush(name, "[" * 2000)
            case 2:
                client.hset(name, "entries", "1e999")
            case _:
                client.zadd(name, {_NO_UTF8: 1})
        client.set(nameless, "garbage")
        # The tenant has to look as though it waited, or nobody looks at its keys.
        client.zadd(keys.WAITING, {self._tenant.encode(): 1, _NO_UTF8: 1})
        client.hset(keys.WORKERS, self._field, "[" * 2000)
        client.hset(keys.DEAD, self._field, '{"tenant_id": 7, "more": []}')

    def remove(self, client: redis.Redis) -> None:
        """Take all of it away again, as a person would."""
        client.delete(*self._keys)
        client.zrem(keys.WAITING, self._tenant, _NO_UTF8)
        client.hdel(keys.WORKERS, self._field)
        client.hdel(keys.DEAD, self._field)
        client.delete(*(key(self._tenant) for key in (keys.wake, keys.lock, keys.backoff)))


def _message(
    body: str = '[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
    task: str = "backups.receive",
    *,
    has_id: bool = True,
) -> str:
    number = _IDS + uuid.uuid4().hex[:12]
    _queue, message, _body = Hostile(0, {}).valid(task)
    message["headers"] |= {"id": number, "root_id": number}
    message["properties"] |= {"correlation_id": number, "delivery_tag": str(uuid.uuid4())}
    if not has_id:
        del message["headers"]["id"]
    message["body"] = base64.b64encode(body.encode()).decode()
    return json.dumps(message)


def _with_callback() -> str:
    # A worker that obeys pushes the next message to a key that all enqueues need.
    callback = {"task": "x", "args": [], "kwargs": {}, "options": {"queue": keys.LOAD}}
    signature = {**callback, "subtask_type": None, "immutable": True}
    tenant = str(uuid.uuid4())
    body = [[tenant], {}, {"callbacks": [signature], "errbacks": None, "chain": None}]
    return _message(json.dumps(body), "backups.verify")


_MESSAGES: dict[str, Callable[[], str]] = {
    "no JSON": lambda: "{not JSON",
    "no message": lambda: json.dumps([1, 2, 3]),
    "no id": lambda: _message(has_id=False),
    "deep": lambda: _message('[[], {"tenant_id": ' + "[" * 500 + "]" * 500 + "}, {}]"),
    "callbacks": _with_callback,
}
