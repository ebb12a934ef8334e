"""Make and verify signatures: HMAC-SHA256 with the deployment's keys.

    message     purpose, then the parts, joined by a newline; no part but the last one holds one
    signature   HMAC-SHA256(key, message) as 64 hexadecimal digits

    inbox entry        purpose `confkeep entry 1`; tenant, the entry's text as it stands in the stream
    backups.receive    purpose `confkeep receive 1`; as in `confkeep.signed_receive`

An entry's text holds the sizes and SHA-256s of the bytes, so the signature covers those too. The purpose
keeps the two kinds apart. A signature has no date: a replayed message repeats its backup_id, which is
committed once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

#: Least bytes of a key: the size of the digest.
LEAST_KEY_BYTES: Final = 32

ENTRY: Final = b"confkeep entry 1"
RECEIVE: Final = b"confkeep receive 1"

_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[!-+\--~]+")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys: the first one signs, all of them verify. Its text never shows them."""

    keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """The keys of a comma-separated text.

        Raises:
            ValueError: a key is too short or no plain ASCII; never names its value.
        """
        parts = [part.strip() for part in text.split(",")]
        for part in parts:
            if len(part) < LEAST_KEY_BYTES:
                raise ValueError(f"each key must have at least {LEAST_KEY_BYTES} characters")
            if not _KEY.fullmatch(part):
                raise ValueError("keys must be printable ASCII without spaces")
        return cls(tuple(part.encode("ascii") for part in parts))

    def sign(self, purpose: bytes, *parts: bytes) -> str:
        """The signature by the first key."""
        return _digest(self.keys[0], purpose, parts)

    def verifies(self, signature: str, purpose: bytes, *parts: bytes) -> bool:
        """Whether one of the keys made the signature; compared in constant time."""
        if not _SIGNATURE.fullmatch(signature):
            return False
        return any(
            hmac.compare_digest(_digest(key, purpose, parts), signature) for key in self.keys
        )


def _digest(key: bytes, purpose: bytes, parts: tuple[bytes, ...]) -> str:
    return hmac.digest(key, b"\n".join((purpose, *parts)), hashlib.sha256).hex()
