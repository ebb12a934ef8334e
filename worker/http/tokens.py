"""Tokens: who may come in by HTTP, for which tenants and to do what. Redis keeps only their SHA-256."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, get_args

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.broker.redis_values import Unreadable
from confkeep.errors import InvalidId, InvalidInput
from confkeep.ids import checked_uuid

Right = Literal["read", "reveal", "enqueue", "admin"]
#: What a token may allow: to read what is masked, to see secrets too, to hand over backups and names, to
#: erase and to see the whole deployment.
RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
#: In place of tenants: all of them, also those to come.
ALL: Final = "*"

#: How a token begins, so that scanners of leaked secrets know it.
_BEGINS: Final = "ck_"
_RANDOM_BYTES: Final = 32
#: Most characters of a token's name.
_MOST_NAME: Final = 100
#: Most characters of what is looked up as a token.
MOST_TOKEN: Final = 200


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    #: 8 hexadecimal digits: how logs and `token list` name it.
    id: str
    name: str
    #: Ids of tenants, or `*` alone.
    tenants: tuple[str, ...]
    may: tuple[Right, ...]
    created_s: int
    #: Seconds since 1970; None: never.
    expires_s: int | None = None
    #: The SHA-256 of its text, in hexadecimal digits.
    digest: str = field(default="", repr=False, compare=False)

    def valid(self, now_s: float) -> bool:
        """Whether it has not expired."""
        return self.expires_s is None or now_s < self.expires_s

    @classmethod
    def of(cls, digest: str, text: bytes | str) -> Self:
        """Read what Redis keeps.

        Raises:
            Unreadable: something else wrote it.
        """
        found = redis_values.object_of(text)
        tenants, may, expires_s = _texts(found, "tenants"), _texts(found, "may"), None
        if found.get("expires_s") is not None:
            expires_s = _number(found, "expires_s")
        name, token_id = found.get("name"), found.get("id")
        if not isinstance(name, str) or not isinstance(token_id, str):
            raise Unreadable("it has no name")
        rights: tuple[Right, ...] = tuple(right for right in RIGHTS if right in may)
        return cls(
            token_id,
            name,
            tuple(tenants),
            rights,
            _number(found, "created_s"),
            expires_s,
            digest,
        )


def _texts(found: dict[str, Any], name: str) -> list[str]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(f"{name} is no list of texts")
    return value


def _number(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(f"{name} is no number")
    return value


def digest_of(text: str) -> str:
    """What Redis keeps in place of a token's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def create(
    client: redis.Redis,
    name: str,
    tenants: Collection[str],
    may: Collection[Right],
    lifetime_s: float | None = None,
) -> tuple[str, Token]:
    """Make a token.

    Args:
        tenants: ids, or `*` alone.
        lifetime_s: seconds until it expires; None: never.

    Returns:
        Its text, which nobody can read again, and what is kept.

    Raises:
        InvalidInput: the name is taken, or an argument is wrong.
        BrokerUnavailable: Redis did not answer.
    """
    name = name.strip()
    if not name or len(name) > _MOST_NAME or not name.isprintable():
        raise InvalidInput("NAME", f"must be 1 to {_MOST_NAME} printable characters")
    if not tenants or not may:
        raise InvalidInput("--tenant" if not tenants else "--may", "must be given")
    wanted = (ALL,) if ALL in tenants else tuple(sorted(checked_uuid("tenant", t) for t in tenants))
    if any(token.name == name for token in list_tokens(client)):
        raise InvalidInput(
            "NAME",
            "is the name of a token already",
            hint=f"Choose another name, or revoke that one: `confkeep token revoke '{name}'`.",
        )
    text = _BEGINS + secrets.token_urlsafe(_RANDOM_BYTES)
    now_s = int(time.time())
    token = Token(
        secrets.token_hex(4),
        name,
        wanted,
        tuple(right for right in RIGHTS if right in may),
        now_s,
        None if lifetime_s is None else now_s + int(lifetime_s),
        digest_of(text),
    )
    kept = {key: value for key, value in asdict(token).items() if key != "digest"}
    with broker_errors():
        client.hset(keys.TOKENS, token.digest, json.dumps(kept))
    return text, token


def list_tokens(client: redis.Redis) -> list[Token]:
    """All tokens, sorted by name; what something else wrote is left out.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = []
    with broker_errors():
        kept: Any = client.hgetall(keys.TOKENS)
    for digest, text in kept.items():
        try:
            found.append(Token.of(redis_values.shown(digest), text))
        except Unreadable:
            continue
    return sorted(found, key=lambda token: token.name)


def revoke(client: redis.Redis, given: str) -> Token:
    """Remove the token of that name or id. It is refused everywhere within 2 seconds.

    Raises:
        InvalidId: there is none.
        BrokerUnavailable: Redis did not answer.
    """
    for token in list_tokens(client):
        if given in (token.name, token.id):
            with broker_errors():
                client.hdel(keys.TOKENS, token.digest)
            return token
    raise InvalidId("TOKEN", "no token is called so", hint="`confkeep token list` lists them.")
