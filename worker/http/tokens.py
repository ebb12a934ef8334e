"""Tokens, and people whom a proxy names: who may come in by HTTP, for which tenants and to do what.

Functions that take a client raise BrokerUnavailable if Redis does not answer.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, get_args

import redis
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
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
#: How the field of a person begins in Redis. No token's field does: nobody gets in with a name as a token.
_PERSON: Final = "person:"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in at a trusted proxy, by the name that it gives them."""

    name: str


#: In place of a name: everybody whom the proxy names and who has no rights of their own.
OTHERS: Final = Person("*")


def _known_rights(value: object) -> tuple[Right, ...]:
    """The rights that this release knows: a later one may have given others."""
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004 - pydantic reports ValueErrors only
    return tuple(right for right in RIGHTS if right in value)


class Token(BaseModel):
    """A token without its secret, or what a person may do."""

    model_config = ConfigDict(frozen=True)

    #: 8 hexadecimal digits: how logs and `token list` name it.
    id: str
    name: str
    #: Ids of tenants, or `*` alone.
    tenants: tuple[str, ...]
    may: Annotated[tuple[Right, ...], BeforeValidator(_known_rights)]
    created_s: int
    #: Seconds since 1970; None: never.
    expires_s: int | None = None
    #: Its field in Redis.
    digest: str = Field(exclude=True, repr=False)

    @property
    def by_proxy(self) -> bool:
        """Whether it is of people whom a proxy names. They have no secret here."""
        return self.digest.startswith(_PERSON)

    def valid(self, now_s: float) -> bool:
        return self.expires_s is None or now_s < self.expires_s

    @classmethod
    def of(cls, digest: str, text: bytes) -> Self | None:
        """What Redis keeps; None if something else wrote it."""
        try:
            return cls(**{**redis_values.object_of(text), "digest": digest})
        except (ValueError, TypeError):
            return None


def digest_of(given: str | Person) -> str:
    """What Redis keeps in place of a token's text, or of a person."""
    text, begins = (given.name, _PERSON) if isinstance(given, Person) else (given, "")
    return begins + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def fields_of(digest: str) -> list[str]:
    """The fields of Redis in which to look; the first that is there counts."""
    return [digest, digest_of(OTHERS)] if digest.startswith(_PERSON) else [digest]


def is_name(text: str) -> bool:
    """Whether a token or a person may be called so."""
    return 0 < len(text) <= _MOST_NAME and text.isprintable()


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
    """
    text = _BEGINS + secrets.token_urlsafe(_RANDOM_BYTES)
    return text, _keep(client, digest_of(text), name.strip(), tenants, may, lifetime_s)


def admit_person(
    client: redis.Redis,
    name: str,
    tenants: Collection[str],
    may: Collection[Right],
    lifetime_s: float | None = None,
) -> Token:
    """Let a person whom the proxy names look at pages; `*` in place of the name: all others.

    Raises:
        InvalidInput: as `create`; or the rights are more than pages use.
    """
    if not set(may) <= {"read", "reveal"}:
        raise InvalidInput(
            "--may",
            "must be read, or read,reveal, for a person whom a proxy names",
            hint="Such a person sees pages. For a program, make a token without --by-proxy.",
        )
    name = name.strip()
    if "," in name:
        raise InvalidInput("NAME", "must not contain a comma, which parts names in a header")
    return _keep(client, digest_of(Person(name)), name, tenants, may, lifetime_s)


def _keep(
    client: redis.Redis,
    digest: str,
    name: str,
    tenants: Collection[str],
    may: Collection[Right],
    lifetime_s: float | None,
) -> Token:
    if not is_name(name):
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
    now_s = int(time.time())
    token = Token(
        id=secrets.token_hex(4),
        name=name,
        tenants=wanted,
        may=tuple(may),
        created_s=now_s,
        expires_s=None if lifetime_s is None else now_s + int(lifetime_s),
        digest=digest,
    )
    with broker_errors():
        client.hset(keys.TOKENS, token.digest, token.model_dump_json())
    return token


def list_tokens(client: redis.Redis) -> list[Token]:
    """All tokens, sorted by name; what something else wrote is left out."""
    with broker_errors():
        kept: Any = client.hgetall(keys.TOKENS)
    found = (Token.of(redis_values.shown(digest), text) for digest, text in kept.items())
    return sorted(filter(None, found), key=lambda token: token.name)


def revoke(client: redis.Redis, given: str) -> Token:
    """Remove the token of that name or id. It is refused everywhere within 2 seconds.

    Raises:
        InvalidId: there is none.
    """
    for token in list_tokens(client):
        if given in (token.name, token.id):
            with broker_errors():
                client.hdel(keys.TOKENS, token.digest)
            return token
    raise InvalidId("TOKEN", "no token is called so", hint="`confkeep token list` lists them.")
