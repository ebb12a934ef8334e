"""Pages: a cursor says where the next one begins, and `Link` is its address."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request

from confkeep.errors import InvalidInput
from worker.http.problems import header

#: Entries of a page by default, and at most.
DEFAULT: Final = 100
MOST: Final = 1_000
_MOST_CURSOR: Final = 2_000
#: What routes document of their pages.
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "A page.",
        "headers": {"Link": header("The address of the next page, if there is one.", always=False)},
    }
}


def encode(values: Sequence[str]) -> str:
    """A cursor: opaque text that goes into a URL as it is."""
    data = json.dumps(list(values)).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(cursor: str, count: int) -> list[str]:
    """The values of a cursor that `encode` made.

    Raises:
        InvalidInput: it is none of ours.
    """
    try:
        if len(cursor) > _MOST_CURSOR:
            raise ValueError("too long")  # noqa: TRY301
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, b"-_", validate=True))
        if len(values) != count or not all(isinstance(value, str) for value in values):
            raise ValueError("other values")  # noqa: TRY301
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("cursor", "must be one that a `Link` of an earlier answer had") from None
    return list(values)


def link_to_next(request: Request, changes: Mapping[str, str]) -> dict[str, str]:
    """The header with the address of the next page: this request's with other parameters."""
    url = request.url.include_query_params(**changes)
    # Without the host: a proxy in front may have another name.
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}
