"""Reads what clients of Oxidized send, up to a limit: JSON objects, and forms."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import Request

from confkeep.errors import InvalidInput, TooLarge

#: Most bytes of a form's field, and of what is sent with a wish for a capture.
SMALL_BYTES: Final = 64 * 1024
#: Most fields of a form.
_FIELDS: Final = 20


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The body.

    Raises:
        TooLarge: it is larger than the limit; the rest is not read.
    """
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most_bytes:
            raise TooLarge("body", f"must be at most {most_bytes:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Bytes that are no UTF-8 become surrogates, as `surrogateescape` does.

    Raises:
        InvalidInput: it is something else.
    """
    try:
        found = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise InvalidInput("body", "must be JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("body", "must be a JSON object")
    return found


def text_in(values: dict[str, Any], name: str, most: int) -> str | None:
    """A field's text, cut at so many characters; None if it is missing or null.

    Raises:
        InvalidInput: it is no text.
    """
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(name, "must be text")
    return value.encode("utf-8", "replace").decode("utf-8")[:most]


async def form_field(request: Request, name: str) -> str | None:
    """A field of a form of either kind; None if it is missing.

    Raises:
        HTTPException: the form cannot be read, or is too large.
    """
    async with request.form(max_files=0, max_fields=_FIELDS, max_part_size=SMALL_BYTES) as form:
        value = form.get(name)
    return value if isinstance(value, str) else None
