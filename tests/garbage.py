"""Garbage of every type for every key of `confkeep.broker.keys`, and the keys themselves, found in that module."""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Final

import redis

from confkeep.broker import keys

#: Texts that no reader of ours may choke on.
TEXTS: Final[Mapping[str, bytes]] = {
    "plain": b"garbage",
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "huge": b'"' + b"x" * 2_000_000 + b'"',
    "digits": b"9" * 10_000,
    "beyond 64 bits": b"99999999999999999999",
    "most": b"9223372036854775807",
    "not a number": b"nan",
    "infinite": b"1e999",
    "null": b"null",
    "list": b'[1, null, {"a": []}, "\\ud800"]',
    "object": b'{"accepted": 7, "status": [], "entry": 1, "shards": "x", "swept_ms": NaN}',
    "lone surrogate": b'{"entry": "\\ud800", "tenant_id": "\\udcff"}',
}
_LAST_ID: Final = "18446744073709551615-18446744073709551615"

Plant = Callable[[redis.Redis, bytes, str, str], None]


def _string(text: bytes) -> Plant:
    def plant(client: redis.Redis, key: bytes, _tenant: str, _backup: str) -> None:
        client.set(key, text)

    return plant


def _list(client: redis.Redis, key: bytes, _tenant: str, _backup: str) -> None:
    client.rpush(key, *TEXTS.values())


def _set(client: redis.Redis, key: bytes, _tenant: str, _backup: str) -> None:
    client.sadd(key, *TEXTS.values())


def _zset(client: redis.Redis, key: bytes, tenant: str, _backup: str) -> None:
    client.zadd(key, dict.fromkeys(TEXTS.values(), float("-inf")))
    client.zadd(key, {tenant: float("inf"), str(uuid.uuid4()): -1.5})


def _hash(text: bytes) -> Plant:
    names = ["entries", "bytes", "tries", "since_ms", "next_ms", "reason", "w@test", "committed"]
    names += ["enqueued", "latency_ms", "latency_ms:x", "latency_ms:inf", "latency_ms:nan"]

    def plant(client: redis.Redis, key: bytes, tenant: str, backup: str) -> None:
        fields: list[str | bytes] = [*names, tenant, backup, b"\xff", str(uuid.uuid4())]
        client.hset(key, mapping=dict.fromkeys([*fields, f"unsigned-{tenant}"], text))

    return plant


def _letters(client: redis.Redis, key: bytes, tenant: str, backup: str) -> None:
    """Like dead letters, and none."""
    letter: dict[str, object] = {"tenant_id": tenant, "backup_id": backup, "device_id": backup}
    letter |= {"kind": "InvalidInput", "reason": "r", "died_at": "x", "signature": None}
    letter["entry"] = "\ud800"
    client.hset(key, backup, json.dumps(letter))
    client.hset(key, f"unsigned-{backup}", json.dumps({**letter, "entry": "{}"}))
    unsigned = {**letter, "backup_id": f"unsigned-{tenant}", "entry": "{}", "later": True}
    client.hset(key, f"unsigned-{tenant}", json.dumps(unsigned))


def _stream(client: redis.Redis, key: bytes, _tenant: str, _backup: str) -> None:
    for name in (b"entry", b"signature", b"at", b"\xff"):
        for text in TEXTS.values():
            client.xadd(key, {name: text})


def _last_of_all(client: redis.Redis, key: bytes, _tenant: str, _backup: str) -> None:
    client.xadd(key, {b"entry": TEXTS["deep"]}, id=_LAST_ID)


#: Name -> how to plant it under a key, for a tenant and one of its backups.
KINDS: Final[Mapping[str, Plant]] = {
    **{f"string, {name}": _string(text) for name, text in TEXTS.items()},
    **{f"hash, {name}": _hash(text) for name, text in TEXTS.items()},
    "hash, letters": _letters,
    "list": _list,
    "set": _set,
    "zset": _zset,
    "stream": _stream,
    "stream, last id": _last_of_all,
}

#: Values of the parameters of the functions that name keys; a new one has to find its place here.
_SHARED_BY_CELERY: Final = {"shard_queue", "high_queue", "queue_of"}


def all_keys(tenant_id: str, backup_id: str) -> dict[str, list[bytes]]:
    """By constant or function of `confkeep.broker.keys`, keys of that kind; also with names that are no ids.

    Those of Celery's queues are left out: kombu reads them before us.
    """
    arguments = {
        "tenant_id": [tenant_id.encode()],
        "backup_id": [backup_id.encode(), b"\xff", b"x:y"],
        "name": [str(uuid.uuid4()).encode(), b"\xff", b""],
        "task_id": [backup_id.encode()],
        "key": [keys.LOAD.encode()],
    }
    found: dict[str, list[bytes]] = {}
    for name, value in vars(keys).items():
        if isinstance(value, str) and name.isupper() and value.startswith(keys.PREFIX):
            if name != "PREFIX":
                found[name] = [value.encode()]
        elif inspect.isfunction(value) and inspect.signature(value).return_annotation == "str":
            if name in _SHARED_BY_CELERY:
                continue
            *before, last = inspect.signature(value).parameters
            # Built from a mark, since the functions take text only.
            given = [arguments[parameter][0].decode() for parameter in before]
            pattern = value(*given, "\0").encode()
            found[name] = [pattern.replace(b"\0", one) for one in arguments[last]]
            if name not in ("result", "odd"):
                odd = pattern.replace(b"\0", b"\xff").replace(tenant_id.encode(), b"\xfe")
                found[name].append(odd)
    return found
