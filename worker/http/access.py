"""Who calls, and what the caller may do: the token or the person of a request, looked up and charged."""

from __future__ import annotations

import base64
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeGuard

import redis
from starlette.requests import Request

from confkeep.broker import keys, redis_values
from confkeep.errors import AccessDenied, NotAllowed, TooManyRequests
from confkeep.settings import Settings
from worker.http.tokens import ALL, MOST_TOKEN, Person, Right, Token, digest_of, fields_of

_MIB: Final = 1024 * 1024
#: Seconds for which a token that was looked up counts without another look.
_FRESH_S: Final = 1.0
#: Tokens that are remembered, known ones and others.
_MOST_REMEMBERED: Final = 4_096
_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    token_id: str
    name: str
    #: Ids of the tenants that it may see; None means all.
    tenants: frozenset[str] | None
    may: frozenset[Right]
    #: Whether a proxy names the caller, so that there is nothing to sign out of here.
    by_proxy: bool = False

    def sees(self, tenant_id: str) -> bool:
        """Whether it may know of the tenant."""
        return self.tenants is None or tenant_id in self.tenants

    @property
    def sees_one(self) -> bool:
        """Whether it may know of one tenant alone, whatever is to come."""
        return self.tenants is not None and len(self.tenants) == 1

    @property
    def reveals(self) -> bool:
        """Whether it may see secrets in exports."""
        return "reveal" in self.may


@dataclass(slots=True)
class _Remembered:
    """A token as it was when it was last looked up, and what was done with it since."""

    token: Token | None
    at: float
    requests: int = 0
    bytes: int = 0
    #: What all processes did with it in the minute of the last look.
    spent: tuple[int, int] = (0, 0)


@dataclass
class Door:
    """Knows tokens, and counts what is done with each.

    One look at Redis a second and token says whether it is still valid, adds what this process did with it,
    and brings back what all processes did. So the bounds hold for all of them together, but for a second's
    requests. Used by threads; a race costs a look.
    """

    client: redis.Redis
    settings: Settings
    _known: OrderedDict[str, _Remembered] = field(default_factory=OrderedDict)

    def admit(self, given: str | Person | None, *, cost_bytes: int = 0) -> Caller:
        """The caller whose token this is, or whom the proxy names so.

        Args:
            cost_bytes: what the request sends, to be counted.

        Raises:
            AccessDenied: there is no such token.
            NotAllowed: the person may see nothing.
            TooManyRequests: it did too much in this minute.
            BrokerUnavailable: Redis did not answer.
        """
        if not _is_looked_up(given):
            raise AccessDenied("a token is needed")
        digest = digest_of(given)
        known = self._known.get(digest)
        now = time.monotonic()
        if known is None or now - known.at >= _FRESH_S:
            known = self._look(digest, known)
        if known.token is None or not known.token.valid(time.time()):
            if isinstance(given, Person):
                raise NotAllowed(
                    f"{given.name} may see nothing here",
                    hint="An administrator allows it: `confkeep token create NAME --by-proxy --tenant TENANT "
                    "--may read`.",
                )
            raise AccessDenied("the token is not valid")
        requests, sent = known.spent
        if (
            requests + known.requests >= self.settings.http_requests
            or sent + known.bytes + cost_bytes > self.settings.http_mib * _MIB
        ):
            raise TooManyRequests(
                f"the token may send {self.settings.http_requests:,} requests and "
                f"{self.settings.http_mib:,} MiB in a minute"
            )
        known.requests += 1
        known.bytes += cost_bytes
        token = known.token
        tenants = None if token.tenants == (ALL,) else frozenset(token.tenants)
        name = given.name if isinstance(given, Person) else token.name
        return Caller(token.id, name, tenants, frozenset(token.may), token.by_proxy)

    def is_fresh(self, given: str | Person | None) -> bool:
        """Whether `admit` needs no look at Redis now."""
        if not _is_looked_up(given):
            return True
        known = self._known.get(digest_of(given))
        return known is not None and time.monotonic() - known.at < _FRESH_S

    def forget(self) -> None:
        """Hand over what was counted, and look each token up again."""
        for digest, known in list(self._known.items()):
            self._look(digest, known)
        self._known.clear()

    def charge(self, text: str | None, sent_bytes: int) -> None:
        """Count the bytes of a body whose length was not announced, for the token that `admit` let in."""
        known = self._known.get(digest_of(text or ""))
        if known is not None:
            known.bytes += sent_bytes

    def _look(self, digest: str, known: _Remembered | None) -> _Remembered:
        """Look a token up, and hand over what was counted since the last look."""
        minute = int(time.time()) // _MINUTE_S
        fields = fields_of(digest)
        requests, sent = (0, 0) if known is None else (known.requests, known.bytes)
        key = keys.spent(f"{digest[-16:]}:{minute}")
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(keys.TOKENS, fields)
        if known is not None and known.token is not None:
            pipe.hincrby(key, "requests", requests)
            pipe.hincrby(key, "bytes", sent)
            pipe.expire(key, 2 * _MINUTE_S)
        pipe.hmget(key, "requests", "bytes")
        texts, *_, counted = redis_values.answers(pipe, or_refused=True)
        spent = [0, 0] if counted is None else [redis_values.count_of(each) for each in counted]
        there = (pair for pair in zip(fields, texts or (), strict=False) if pair[1] is not None)
        token = next((Token.of(*pair) for pair in there), None)
        found = _Remembered(token, time.monotonic(), spent=(spent[0], spent[1]))
        self._known[digest] = found
        self._known.move_to_end(digest)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return found


def _is_looked_up(given: str | Person | None) -> TypeGuard[str | Person]:
    return isinstance(given, Person) or (given is not None and 0 < len(given) <= MOST_TOKEN)


def token_of(request: Request) -> str | None:
    """The token that a request brings: as a bearer, in `X-Auth-Token`, or as the password of Basic."""
    given = request.headers.get("authorization", "")
    scheme, _, value = given.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except ValueError:
            return None
    return request.headers.get("x-auth-token")


def require(caller: Caller, right: Right) -> None:
    """Refuse a caller that has not the right.

    Raises:
        NotAllowed: names the right.
    """
    if right not in caller.may:
        raise NotAllowed(f"the token may not `{right}`")
