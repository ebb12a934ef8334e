"""Answers with a file's bytes: with its object's id as ETag, in ranges, and kept by caches where it never changes."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import Request, Response

from worker.http.problems import header
from worker.reading.answers import File
from worker.reading.store_reader import FileName

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_TAG: Final = {
    "ETag": header("The object's id, for If-None-Match; a masked text has one of its own."),
    "Confkeep-Version": header("The version's commit."),
}
_RANGED: Final = {**_TAG, "Content-Range": header("Which bytes of how many these are.")}
_MEDIA: Final[dict[FileName, str]] = {
    "export.rsc": "text/plain; charset=utf-8",
    "backup.bin": "application/octet-stream",
}


def documented_file(media_type: str) -> dict[int | str, dict[str, Any]]:
    """What routes document of these answers."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": "The file.", "content": content, "headers": _TAG},
        206: {
            "description": "The part that `Range` names.",
            "content": content,
            "headers": _RANGED,
        },
        304: {"description": "It is as `If-None-Match` says.", "headers": _TAG},
        416: {"description": "The file has no such part.", "headers": _RANGED},
    }


def file_answer(
    request: Request, file: File, name: FileName, *, fixed: bool, masked: bool
) -> Response:
    """The answer to a request for a file (RFC 9110, 13 and 14).

    Args:
        fixed: the address means the same bytes for ever.
        masked: a text in which secrets are masked is another one than git's object; and rules of masking
            may become better, so no cache keeps it for ever.
    """
    etag = f'"{file.object_id}{"-masked" if masked else ""}"'
    kept = "private, max-age=31536000, immutable" if fixed and not masked else "private, no-cache"
    headers = {
        "ETag": etag,
        "Cache-Control": kept,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Confkeep-Version": file.sha,
        "Vary": "Authorization, X-Auth-Token",
    }
    wanted = request.headers.get("if-none-match")
    if wanted is not None and _matches(wanted, etag):
        return Response(status_code=304, headers=headers)
    size = len(file.data)
    asked = request.headers.get("range")
    only_if = request.headers.get("if-range")
    if asked is not None and (only_if is None or only_if == etag):
        part = _part(asked, size)
        if part == (0, 0):
            return Response(
                status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"}
            )
        if part is not None:
            start, end = part
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            return Response(file.data[start:end], 206, headers, _MEDIA[name])
    return Response(file.data, 200, headers, _MEDIA[name])


def _matches(wanted: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in wanted.split(",")}
    return "*" in tags or etag in tags


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """Where a range begins and ends; (0, 0) if it lies behind the file, None if it is no single range."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        last = min(int(found[2]), size)
        return (size - last, size) if last else (0, 0)
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return None
    return (start, end) if start < size else (0, 0)
