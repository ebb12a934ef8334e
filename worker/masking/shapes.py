"""Finds the secrets that their own form tells: keys in PEM, passwords in addresses, tokens, hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from confkeep.vendors.common import SHAPES
from worker.masking.linear import compiled
from worker.masking.spans import Span
from worker.masking.values import is_removed

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_END: Final = b"-----END "
_SHAPES: Final = tuple(rule.pattern for rule in SHAPES)
_ANY_SHAPE: Final = "|".join(f"(?:{shape})" for shape in _SHAPES)
#: What of PEM is public: RFC 7468.
_PUBLIC: Final = re.compile(
    rb"(?:X509 |TRUSTED |NEW )?CERTIFICATE(?: REQUEST)?|(?:RSA |EC |DSA )?PUBLIC KEY|X509 CRL"
    rb"|(?:DH|EC|DSA) PARAMETERS|SSH2 PUBLIC KEY"
)


def shaped(text: bytes) -> Iterator[Span]:
    """The secrets that any text shows by their form."""
    yield from _in_pem(text)
    # Most texts have none, and none matches before the first match of any.
    if (first := compiled(_ANY_SHAPE).search(text)) is not None:
        for shape in _SHAPES:
            yield from groups(compiled(shape), text, first.start())


def groups(expression: Any, text: bytes, at: int = 0) -> Iterator[Span]:
    """What the groups of an expression match from `at` on."""
    while (found := expression.search(text, at)) is not None:
        last = found.end()
        for number in range(1, expression.groups + 1):
            start, end = found.span(number)
            if start < end and not is_removed(text, start, end):
                yield start, end
                last = end if number == expression.groups else last
        at = max(last, at + 1)


def _in_pem(text: bytes) -> Iterator[Span]:
    """The insides of PEM blocks that are not public. One without an end goes on to the next quote, or for good."""
    # To look for the bytes takes a tenth of the time that the expression takes.
    at = text.find(b"-----BEGIN ")
    while at >= 0 and (found := _BEGIN.search(text, at)) is not None:
        at = found.end()
        if _PUBLIC.fullmatch(found[1]):
            continue
        end = text.find(_END, at)
        if end < 0:
            end = text.find(b'"', at)
        at = len(text) if end < 0 else end
        yield found.end(), at
