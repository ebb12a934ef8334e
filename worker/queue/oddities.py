"""Finds keys in Redis that confkeep did not write, and sets aside those that are in the way.

A key of another type than `confkeep.broker.keys` says makes every command on it fail. The scripts, before
they write, and the sweep rename it to `confkeep:odd:<key>` and go on as if the key were missing. No
accepted backup can be in it, since we write none of that type. A key of the right type that cannot be
read stays where it is; readers skip it, and `confkeep status` tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotPermitted
from worker.queue import dead_letters, sweep_report, totals

#: Fields of hashes that hold a sum and not a tenant's count.
_SUMS: Final = (b"entries", b"bytes")
#: Look at so many fields or members of a key.
_MOST_READ: Final = 10_000
#: Look at the own keys of so many tenants.
_MOST_TENANTS: Final = 200
#: The tenants whose producers of an earlier release left backups that no worker takes any more.
ARRIVING: Final = keys.PREFIX + "arriving"


@dataclass(frozen=True, slots=True)
class Oddity:
    """A key that holds what confkeep did not write."""

    #: As a person types it into `redis-cli`.
    key: str
    problem: str
    #: What to do about it.
    step: str


def set_aside(client: redis.Redis, types: Mapping[str, str]) -> list[str]:
    """Set aside those keys that have a wrong type.

    Args:
        types: the type of each key, as in `confkeep.broker.keys`.

    Returns:
        The keys that were.

    Raises:
        BrokerUnavailable: Redis did not answer; call again.
    """
    with broker_errors():
        found: Any = scripts.load("set_aside").run(client, list(types), list(types.values()))
    return [redis_values.name_of(key) for key in found]


def notes(client: redis.Redis) -> list[Oddity]:
    """The keys that were set aside and still exist.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    fields = redis_values.answer(client.hgetall, keys.ODD)
    found = sorted((fields or {}).items())[:_MOST_READ]
    if not found:
        return []
    pipe = client.pipeline(transaction=False)
    for key, _text in found:
        pipe.exists(keys.odd("").encode() + key)
    there = redis_values.answers(pipe)
    return [
        _set_aside(key, redis_values.shown(text.split(b" ")[0][:20]) or "value")
        for (key, text), is_there in zip(found, there, strict=True)
        if is_there
    ]


def _set_aside(key: bytes, kind: str) -> Oddity:
    article = "an" if kind[0] in "aeiou" else "a"
    return Oddity(
        shown(key),
        f"{article} {kind} stood there, which confkeep does not write; it is set aside",
        f"find out who writes to the server, look at it, then DEL {shown(keys.odd('').encode() + key)}",
    )


def arrivals(tenant_id: str) -> str:
    """The pattern of what a tenant's producers of an earlier release left."""
    return f"{keys.PREFIX}arriv*:{tenant_id}*"


def look(client: redis.Redis, tenant_ids: Iterable[str]) -> list[Oddity]:
    """List all oddities: set aside, of a wrong type, or unreadable. Changes nothing.

    Args:
        tenant_ids: look at their own keys too, at most at 200 tenants'.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    types = dict(keys.TYPES)
    for tenant_id in list(tenant_ids)[:_MOST_TENANTS]:
        types.update(keys.types_of(tenant_id))
    try:
        found = notes(client)
        odd = _of_wrong_type(client, types)
    except NotPermitted:
        # The rules of an earlier release let no monitor ask for types.
        found, odd = [], []
    return [*found, *odd, *_unreadable(client)]


def _of_wrong_type(client: redis.Redis, types: Mapping[str, str]) -> list[Oddity]:
    pipe = client.pipeline(transaction=False)
    for key in types:
        pipe.type(key)
        pipe.pttl(key)
    answers = redis_values.answers(pipe)
    found = []
    for number, (key, kind) in enumerate(types.items()):
        there, life_ms = answers[2 * number].decode(), answers[2 * number + 1]
        wanted = "string" if kind == keys.EXPIRING else kind
        if there not in (wanted, "none"):
            problem = f"is of the type {there}, not {wanted}"
        elif there != "none" and kind == keys.EXPIRING and life_ms == -1:
            problem = "never expires, so no process of confkeep set it"
        else:
            continue
        step = "a worker sets it aside; where none runs, look at it and DEL it"
        found.append(Oddity(shown(key), problem, step))
    return found


def _unreadable(client: redis.Redis) -> list[Oddity]:
    """Keys of the right type with fields that confkeep did not write."""
    pipe = client.pipeline(transaction=False)
    for key in (keys.WORKERS, keys.LOAD, keys.DEAD, keys.TOTALS):
        pipe.hgetall(key)
    pipe.zrange(keys.WAITING, 0, _MOST_READ)
    pipe.get(keys.ROOM)
    pipe.exists(ARRIVING)
    workers, load, dead, counted, waiting, room, arriving = redis_values.answers(pipe)
    found: list[Oddity] = []

    def tell(
        key: str, fields: Any, is_good: Callable[[bytes, bytes], bool], command: str = "HDEL"
    ) -> None:
        bad = [name for name, value in (fields or {}).items() if not is_good(name, value)]
        if bad:
            what = "member" if command == "ZREM" else "field"
            count = f"1 {what}" if len(bad) == 1 else f"{len(bad):,} {what}s"
            found.append(
                Oddity(
                    key,
                    f"{count} that confkeep did not write, such as {shown(bad[0])}: left out",
                    f"look at it, then {command} {key} {shown(bad[0])}",
                )
            )

    tell(keys.WORKERS, workers, lambda name, text: sweep_report.parse(name, text) is not None)
    tell(keys.LOAD, load, _is_sum)
    tell(keys.DEAD, dead, dead_letters.is_readable)
    tell(keys.TOTALS, counted, totals.is_readable)
    tell(keys.WAITING, dict.fromkeys(waiting or (), b""), _is_tenant, "ZREM")
    if room is not None and redis_values.number_of(room) <= 0:
        found.append(
            Oddity(
                keys.ROOM, "is no number of bytes: left out", f"look at it, then DEL {keys.ROOM}"
            )
        )
    if arriving:
        left = shown(arrivals("*"))
        problem = f"an earlier release's producers left backups in {left}, which no worker takes"
        step = "let a worker of the release before this one take them, then DEL what is left"
        found.append(Oddity(ARRIVING, problem, step))
    return found


def _is_tenant(name: bytes, _value: bytes) -> bool:
    return redis_values.tenant_of(name) is not None


def _is_sum(name: bytes, value: bytes) -> bool:
    known = name in _SUMS or redis_values.tenant_of(name) is not None
    number = redis_values.number_of(value, -1)
    return known and redis_values.count_of(value) == number


def shown(name: str | bytes) -> str:
    """A key or field as `redis-cli` takes it: in quotes where it needs them."""
    text = redis_values.shown(name if isinstance(name, bytes) else redis_values.raw_name(name))
    return text if text and not set(text) & set(" \\\"'") else f'"{text}"'
