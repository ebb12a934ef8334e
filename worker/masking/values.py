"""Reads the value behind a name, in each way in which exports and scripts quote it.

A RouterOS script within an export is a quoted text, so its own quotes are escaped, and those of a
script within that script once more. The level of a quote is how often it is escaped: 1 backslash
before it is level 1, 3 are level 2, 7 are level 3. A text ends at the next quote of its own level or
of a lower one, which ends a text around it.
"""

from __future__ import annotations

import re
from typing import Final

from worker.masking.spans import Span

_QUOTE: Final = re.compile(rb'(?<!\\)\\*"')
_OPENING: Final = re.compile(rb'\\*"')
#: A value without quotes ends at white space, at a quote, and at a line's end of a script in quotes.
_BARE_END: Final = re.compile(rb"""[\s"]|(?<!\\)(?:\\+"|\\[rnt_])""")
#: The variable of a script, which is no secret.
_VARIABLE: Final = re.compile(
    rb"""(?:\\*\$)(?:[A-Za-z_]\w*|\\*"[^"\\]{0,64}\\*")(?=[\s;\]\)\}",]|\\|\Z)"""
)
_NAMED: Final = re.compile(rb"(\\*)\$[A-Za-z_]\w*")
#: In brackets: a quoted text, or one that a command converts.
_LITERAL: Final = re.compile(rb'"|:to[a-z]')
_BRACKETS: Final = {b"(": b")", b"[": b"]", b"{": b"}"}
_IN_BRACKETS: Final = re.compile(rb"""[()\[\]{}\n]|(?<!\\)\\*\"""")
#: What another program put in the place of a secret; a function's body; a public key.
_REMOVED: Final = re.compile(
    rb"[\"']?<(?:[a-z]+ )?(?:removed|hidden|stripped|redacted)>", re.IGNORECASE
)
_FUNCTION: Final = re.compile(rb"do=\\*\{")
_PUBLIC: Final = re.compile(rb'(?:\\*")?(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-)')


def quote_level(text: bytes) -> int:
    """The level of a quote with its backslashes: how many of them, as a binary number, end in ones."""
    backslashes, level = len(text) - 1, 0
    while backslashes & 1:
        backslashes >>= 1
        level += 1
    return level


def value_at(text: bytes, at: int) -> Span | None:
    """The value that begins at `at`, with its quotes; None if it is empty or no secret."""
    if at >= len(text):
        return None
    if opening := _OPENING.match(text, at):
        start, level = opening.end(), quote_level(opening[0])
        stop, end = _end_of_quoted(text, start, level)
        content = text[start:stop]
        if not content.strip() or _PUBLIC.match(content) or is_removed(text, start, stop):
            return None
        return None if _is_variable(content, level) else (at, end)
    first = text[at : at + 1]
    if first == b"'":
        end = text.find(b"'", at + 1, _line_end(text, at))
        if end > at:
            return (at, end + 1) if end > at + 1 else None
    if first in _BRACKETS:
        end = _end_of_brackets(text, at, first)
        # What a command finds is no text that stands here.
        return None if first == b"[" and not _LITERAL.search(text, at, end) else (at, end)
    if _VARIABLE.match(text, at) or _FUNCTION.match(text, at) or _PUBLIC.match(text, at):
        return None
    found = _BARE_END.search(text, at)
    stop = len(text) if found is None else found.start()
    return None if stop == at or is_removed(text, at, stop) else (at, stop)


def _is_variable(content: bytes, level: int) -> bool:
    """Whether a quoted text is a script's variable alone; an escaped `$` is a letter like others."""
    found = _NAMED.fullmatch(content)
    return found is not None and len(found[1]) == (1 << level) - 1


def is_removed(text: bytes, start: int, end: int) -> bool:
    """Whether another program has put something in the place of a secret that began at `start`."""
    return not text[start:end].strip(b"*\"'; \t\r\n") or _REMOVED.match(text, start) is not None


def _end_of_quoted(text: bytes, at: int, level: int) -> Span:
    """Where a quoted text's content ends, and where its closing quote ends."""
    for found in _QUOTE.finditer(text, at):
        its = quote_level(found[0])
        if its == level:
            # Backslashes beyond those of the level are content.
            return found.end() - (1 << level), found.end()
        if its < level:
            return found.start(), found.start()
    return len(text), len(text)


def _end_of_brackets(text: bytes, at: int, opening: bytes) -> int:
    """Where brackets close, on the same line; else where the line ends."""
    closing, depth = _BRACKETS[opening], 0
    while found := _IN_BRACKETS.search(text, at):
        token = found[0]
        at = found.end()
        if token == opening:
            depth += 1
        elif token == closing:
            depth -= 1
            if depth == 0:
                return at
        elif token == b"\n":
            return found.start()
        elif token.endswith(b'"'):
            at = max(at, _end_of_quoted(text, at, quote_level(token))[1])
    return len(text)


def _line_end(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end
