"""Check the ids that become names of folders and keys."""

from __future__ import annotations

import re

from confkeep.errors import InvalidId

_UUID = re.compile(
    r"([0-9a-fA-F]{8})(-?)([0-9a-fA-F]{4})\2([0-9a-fA-F]{4})\2([0-9a-fA-F]{4})\2([0-9a-fA-F]{12})"
)


def checked_uuid(field: str, value: object) -> str:
    """The canonical text of a UUID, lower case with hyphens; given so, in upper case, or without hyphens.

    `uuid.UUID` alone is too lenient for names: it takes braces, `urn:uuid:`, underscores and the
    digits of any script.

    Raises:
        InvalidId: `value` is anything else; the message does not repeat it.
    """
    found = _UUID.fullmatch(str(value))
    if found is None:
        raise InvalidId(
            field,
            "must be a UUID such as 6fa459ea-ee8a-3ca4-894e-db77e160355e",
            hint="Give the whole id: 32 hexadecimal digits, with its dashes or without.",
        )
    return "-".join(found.group(1, 3, 4, 5, 6)).lower()
