"""Writes values as exports of RouterOS do: quoted, in scripts within scripts, and wrapped."""

from __future__ import annotations

import re

V6 = "# jan/02/2024 03:04:05 by RouterOS 6.49.10\n# software id = ABCD-1234\n#\n"
V7 = "# 2024-01-02 03:04:05 by RouterOS 7.16\n# software id = ABCD-1234\n#\n"

_BARE = re.compile(r"[A-Za-z0-9_.:/@!*+,-]+")
_ESCAPED = {'"': '\\"', "\\": "\\\\", "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(value: str, level: int = 0) -> str:
    """A value in quotes, as it stands in a script that itself stands in `level` quoted texts."""
    text = '"' + escaped(value) + '"'
    for _ in range(level):
        text = escaped(text)
    return text


def escaped(value: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in value)


def bare(value: str) -> str:
    """A value without quotes, where it may stand so."""
    return value if _BARE.fullmatch(value) else quoted(value)


def wrapped(line: str, width: int = 80, end: str = "\n") -> str:
    """A line as RouterOS breaks it: at spaces and behind `=`, within quotes anywhere but in an escape."""
    out: list[str] = []
    piece, in_quotes, at = "", False, 0
    while at < len(line):
        size = 2 if line[at] == "\\" else 1
        token = line[at : at + size]
        may_break = in_quotes or piece.endswith((" ", "="))
        # The white space at the beginning of the next line is not content.
        if len(piece) + size >= width and may_break and not (in_quotes and token == " "):
            out.append(piece + "\\" + end + "    ")
            piece = ""
        if token == '"':
            in_quotes = not in_quotes
        piece += token
        at += size
    return "".join([*out, piece])
