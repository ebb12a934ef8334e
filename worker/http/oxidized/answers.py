"""Answers as oxidized-web gives them: JSON in which a text is a list of lines, plain texts, and diffs."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import Any, Final

from fastapi import Response

from confkeep.settings import Settings
from worker.http.oxidized.nodes import Node
from worker.reading.answers import VersionEntry

#: Of a text, whatever it holds, a browser makes nothing else.
_TEXT: Final = {"Content-Type": "text/plain;charset=utf-8", "X-Content-Type-Options": "nosniff"}
#: A hunk's first line, with what git or confkeep name behind it: a function, or a section.
_HEAD: Final = re.compile(rb"^(@@ -[0-9,]+ \+[0-9,]+ @@)[^\n]*", re.MULTILINE)

NO_VERSION: Final = "version not found"
NO_DIFF: Final = "No diff available"


def answer(said: Any, *, as_json: bool, status: int = 200) -> Response:
    """An answer; what is no text is always JSON.

    Args:
        said: text as `str` or as bytes of any encoding, or what JSON can hold.
    """
    if not isinstance(said, str | bytes):
        return _json(said, status)
    if as_json:
        text = said if isinstance(said, str) else said.decode("utf-8", "replace")
        return _json(lines(text), status)
    return Response(said, status, _TEXT)


def _json(value: Any, status: int) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode("utf-8", "replace"), status, None, "application/json")


def lines(text: str) -> list[str]:
    """The lines of a text with their ends. Only a line feed ends a line, as in Ruby."""
    found = re.split(r"(?<=\n)", text)
    return found[:-1] if found[-1] == "" else found


def unfound(name: str, found: list[Node], *, as_json: bool) -> Response:
    """The answer of 404 where a name is no node's, or several nodes'."""
    said = f"unable to find '{name[:253]}'"
    if found:
        said += f": {len(found)} nodes are called so, such as {found[0].full_name}"
    return answer(said, as_json=as_json, status=404)


def version_row(version: VersionEntry, settings: Settings) -> dict[str, Any]:
    """A version in a node's list. It is dated by its capture, as Oxidized's commits are."""
    moment = f"{version.captured_at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} +0000"
    author = {"name": settings.author_name, "email": settings.author_email, "time": moment}
    return {
        "date": moment,
        "time": moment,
        "oid": version.sha,
        "author": author,
        "message": version.message,
    }


def patch(full_name: str, old: bytes, new: bytes, hunks: bytes) -> bytes:
    """A diff with git's header.

    Args:
        old, new: the two texts as the caller may see them. The ids in the header are theirs: the real text's
            would let a secret be guessed.
        hunks: their difference.
    """
    name = full_name.encode("utf-8", "replace")
    head = b"diff --git a/%b b/%b\nindex %b..%b 100644\n--- a/%b\n+++ b/%b\n"
    ids = (_short_id(old), _short_id(new))
    return head % (name, name, *ids, name, name) + _HEAD.sub(rb"\1", hunks)


def _short_id(text: bytes) -> bytes:
    """The first digits of git's id of a text."""
    return (
        hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False)
        .hexdigest()[:7]
        .encode()
    )
