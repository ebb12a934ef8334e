"""A reader's cursor: how far it has come, in the stream of events and in each tenant's git, as opaque text.

The text is base64 of these bytes, numbers in LEB128:

    1   version, 1
    1   flags: 1 a place to compare with, 2 git is being gone through
        the place in the stream: ms, number, 3 bytes of its event's SHA-1 or 3 zeros
        the place up to which git has answered the commits, if flag 1
    6   the last tenant that git was gone through for, zeros before the first, if flag 2
        the seconds since 1970 before which no commit is wanted of a tenant that is not listed
    16  each tenant: 6 bytes of its id's SHA-1, and of the last commit that was told the first 6 bytes
        and the committer's date, seconds since 1970 in 4 bytes, big-endian

Short forms suffice: where one is ambiguous or unknown, more is told again than has to be.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from confkeep.errors import InvalidInput

_VERSION: Final = 1
_COMPARES: Final = 1
_GOES: Final = 2
_CHECK: Final = 3
_SHORT: Final = 6
#: Longest cursor: of 100,000 tenants.
_MOST: Final = 2_200_000
_NOT_OURS: Final = "is no cursor of confkeep's"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the stream: behind the entry with that id."""

    ms: int = 0
    number: int = 0
    #: Tells the entry from another one under its id; empty: no entry is meant.
    check: bytes = b""

    @property
    def id(self) -> str:
        """As Redis writes it."""
        return f"{self.ms}-{self.number}"

    def is_at_or_before(self, other: Place) -> bool:
        """Whether it is not behind the other."""
        return (self.ms, self.number) <= (other.ms, other.number)


def place_of(stream_id: bytes, text: bytes) -> Place:
    """The place of an entry with that text."""
    ms, _, number = stream_id.decode("ascii").partition("-")
    return Place(int(ms), int(number), _sha1(text)[:_CHECK])


def key_of(tenant_id: str) -> bytes:
    """How a cursor names a tenant."""
    return _sha1(tenant_id.encode())[:_SHORT]


@dataclass(frozen=True, slots=True)
class Seen:
    """The last commit of a tenant that was told."""

    #: The first 6 bytes of its id.
    sha: bytes
    #: The committer's date in seconds since 1970.
    at_s: int

    def is_of(self, sha: str | None) -> bool:
        """Whether it may be the commit with that full id."""
        return sha is not None and bytes.fromhex(sha)[:_SHORT] == self.sha


def seen_of(sha: str, at_s: int) -> Seen:
    """A commit with that full id and date."""
    return Seen(bytes.fromhex(sha)[:_SHORT], min(max(0, at_s), 2**32 - 1))


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has come."""

    place: Place = Place()
    #: Git has told the commits of all entries up to this place, which may be ahead of `place`; None: of none.
    told_to: Place | None = None
    #: The last tenant that git was gone through for, by `key_of`; empty before the first; None: git is
    #: not being gone through.
    passing: bytes | None = b""
    #: Of a tenant that is not in `seen`, commits are wanted from this second on.
    since_s: int = 0
    #: By `key_of` a tenant, its last commit that was told.
    seen: Mapping[bytes, Seen] = field(default_factory=lambda: MappingProxyType({}))

    def encode(self) -> str:
        """The cursor as text for URLs."""
        flags = (self.told_to is not None) * _COMPARES + (self.passing is not None) * _GOES
        parts = [bytes((_VERSION, flags)), _place(self.place)]
        if self.told_to is not None:
            parts.append(_place(self.told_to))
        if self.passing is not None:
            parts.append(self.passing.ljust(_SHORT, b"\0"))
        parts.append(_number(self.since_s))
        for key, seen in sorted(self.seen.items()):
            parts.append(key + seen.sha + seen.at_s.to_bytes(4, "big"))
        return base64.urlsafe_b64encode(b"".join(parts)).rstrip(b"=").decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The inverse of `encode`.

        Raises:
            InvalidInput: it is no such text.
        """
        if len(text) > _MOST:
            raise InvalidInput("cursor", _NOT_OURS)
        try:
            data = base64.b64decode(
                text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
            )
            read = _Bytes(data)
            flags = read.flags()
            place = read.place()
            told_to = read.place() if flags & _COMPARES else None
            passing = read.take(_SHORT) if flags & _GOES else None
            if passing is not None and not any(passing):
                passing = b""
            since_s = read.number()
            seen = {}
            while not read.is_done():
                key, sha, at_s = read.take(_SHORT), read.take(_SHORT), read.take(4)
                seen[key] = Seen(sha, int.from_bytes(at_s, "big"))
        except (ValueError, binascii.Error):
            raise InvalidInput("cursor", _NOT_OURS) from None
        return cls(place, told_to, passing, since_s, seen)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def is_done(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("too short")
        self._at += count
        return found

    def flags(self) -> int:
        version, flags = self.take(2)
        if version != _VERSION or flags > _COMPARES + _GOES:
            raise ValueError("of another release")
        return flags

    def number(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            [byte] = self.take(1)
            value |= (byte & 127) << shift
            if byte < 128:
                if value >= 2**64:
                    break
                return value
        raise ValueError("too large")

    def place(self) -> Place:
        ms, number, check = self.number(), self.number(), self.take(_CHECK)
        return Place(ms, number, check if any(check) else b"")


def _place(place: Place) -> bytes:
    return _number(place.ms) + _number(place.number) + place.check.ljust(_CHECK, b"\0")


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()
