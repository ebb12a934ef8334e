"""Tells by its name whether a property holds a secret."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from confkeep.vendors.mikrotik import HARMLESS, PROPERTIES

#: Names that are secret whatever their value.
KNOWN: Final = frozenset(name for each in PROPERTIES for name in each.names)
#: Within a name, these always sound secret.
_WORDS: Final = re.compile(
    rb"passw|passphrase|passcode|pwd|secret|token|psk|credential|apikey|phash|otp.?seed"
)
#: These only as a word of their own, or as a name's end.
_PARTS: Final = frozenset({b"pass", b"pw", b"pin", b"puk", b"key", b"keys", b"cak"})
_ENDS: Final = (b"key", b"pass")
_SPLIT: Final = re.compile(rb"[-_.]+|\d+\Z")
_CAMEL: Final = re.compile(rb"(?<=[a-z0-9])(?=[A-Z])")
#: Parts of names that say something about a secret, and are none.
_ABOUT: Final = frozenset(
    (
        b"age algorithm algo attempts auth authentication change chain complexity enable "
        b"encryption expiration expire expires file format group history id index interval length "
        b"lifetime limit max min minimum mode name number owner policy prompt public recovery "
        b"reset retries retry rotation scope server size strength timeout timer type update usage "
        b"user username"
    ).split()
)
#: Values of unknown properties that are switches.
SWITCHES: Final = re.compile(
    rb"""(?:\\*")?(?:yes|no|true|false|on|off|none|enabled?|disabled?|auto|default|required|optional"""
    rb"""|null|nil|string|str)(?:\\*")?[,;]?""",
    re.IGNORECASE,
)
#: Longer names are no names.
_MOST_BYTES: Final = 128


def is_known(name: bytes) -> bool:
    """Whether a name is that of a property which always holds a secret."""
    return len(name) <= _MOST_BYTES and name.decode("latin-1") in KNOWN


def sounds_secret(name: bytes) -> bool:
    """Whether a name is that of a secret, or sounds so and is not known for something else."""
    if len(name) > _MOST_BYTES:
        return _WORDS.search(name.lower()) is not None or name.lower().endswith(_ENDS)
    return _sounds_secret(name)


@lru_cache(maxsize=4096)
def _sounds_secret(name: bytes) -> bool:
    lower = name.lower().lstrip(b"-.")
    text = lower.decode("latin-1")
    if text in KNOWN:
        return True
    if text in HARMLESS:
        return False
    parts = [part for part in _SPLIT.split(_CAMEL.sub(b"-", name).lower()) if part]
    if not parts or parts[-1] in _ABOUT or b"public" in parts:
        return False
    if _WORDS.search(lower):
        return True
    return not _PARTS.isdisjoint(parts) or parts[-1].endswith(_ENDS)
