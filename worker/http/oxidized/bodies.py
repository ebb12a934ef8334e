"""Reads what clients of Oxidized send: JSON objects, and forms."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import Request
from starlette.formparsers import MultiPartException, MultiPartParser

from confkeep.errors import InvalidInput
from worker.http.uploads import read_json

#: Most bytes of a form, and of what is sent with a wish for a capture.
SMALL_BYTES: Final = 64 * 1024
#: Most fields of a form.
_FIELDS: Final = 20


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
    return value[:most].encode("utf-8", "replace").decode("utf-8")


async def form_field(request: Request, name: str) -> str | None:
    """A field of a form of either kind; None if it is missing, or the form cannot be read.

    Raises:
        TooLarge: the form is too large.
    """
    body = await read_json(request, SMALL_BYTES)
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            parser = MultiPartParser(request.headers, _whole(body), max_files=0, max_fields=_FIELDS)
            value = (await parser.parse()).get(name)
            return value if isinstance(value, str) else None
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS)).get(name)
    except (MultiPartException, LookupError, ValueError):
        return None


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""
