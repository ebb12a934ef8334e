"""Reads what Redis holds without believing it: each text gives a value, or one declared error.

Who may write to the server may put anything under any key: another type, bytes that are no UTF-8,
JSON that is nested 100,000 deep, a number of 10,000 digits, a field that a later release knows. None
of that may end a thread or a command. So all that comes from there passes here, and is bounded before
it is looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis

from confkeep.broker.connections import broker_errors
from confkeep.errors import InvalidId
from confkeep.ids import checked_uuid
from confkeep.wording import printable

#: Most bytes of a JSON text, unless a caller knows better. What we write takes a few KiB.
MOST_BYTES: Final = 256 * 1024
#: The last moment that can be shown as a date, in ms: the end of the year 9999.
LAST_MS: Final = 253_402_300_799_000
#: Deepest nesting of a JSON text. What we write is 4 deep.
MOST_DEPTH: Final = 16
#: Most bytes of a name that are shown to a person.
_MOST_SHOWN: Final = 120
#: Most digits of an integer, with its sign: each of 64 bits has no more.
_MOST_DIGITS: Final = 20

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_WHOLE_NUMBER: Final = re.compile(rb"-?[0-9]{1,19}")
_WRONG_TYPE: Final = "WRONGTYPE"
#: How the server says that it cannot add to what a key holds.
_NO_NUMBER: Final = ("not an integer", "would overflow")

_Record = TypeVar("_Record")


class Unreadable(ValueError):
    """A text that confkeep did not write. Its message repeats nothing of it."""


@functools.cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_int=_whole_number, parse_float=_finite, parse_constant=_no_number)


def json_of(text: bytes | str, *, most_bytes: int = MOST_BYTES) -> Any:
    """The value of a JSON text.

    Args:
        most_bytes: how long it may be.

    Raises:
        Unreadable: too long, too deep, not UTF-8, no JSON, or with a number beyond 64 bits.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not isinstance(data, bytes):
        raise Unreadable("it is no text")
    if len(data) > most_bytes:
        raise Unreadable(f"it is longer than {most_bytes} bytes")
    _check_depth(data)
    try:
        return _decoder().decode(data.decode("utf-8"))
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no JSON in UTF-8") from error


def object_of(text: bytes | str, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The value of a JSON text that is an object.

    Raises:
        Unreadable: as `json_of`, or it is something else.
    """
    value = json_of(text, most_bytes=most_bytes)
    if not isinstance(value, dict):
        raise Unreadable("it is no JSON object")
    return value


def record_of(cls: Callable[..., _Record], values: dict[str, Any]) -> _Record:
    """A dataclass from JSON values. Fields that it does not know are a later release's: left out.

    Raises:
        Unreadable: a field is missing, is of another type, or is a text that has no UTF-8 form but
            for bytes that `surrogateescape` keeps.
    """
    known: dict[str, Any] = {}
    for name, (type_, required) in _fields_of(cls).items():
        if name not in values:
            if required:
                raise Unreadable(f"the field {name} is missing")
            continue
        value = known[name] = values[name]
        # To Python True is an int.
        if not isinstance(value, type_) or isinstance(value, bool) is not (type_ is bool):
            raise Unreadable(f"the field {name} is of another type")
        if isinstance(value, str):
            _check_text(name, value)
    return cls(**known)


def number_of(text: bytes | None, default: int = 0) -> int:
    """The whole number of 64 bits that a text is; `default` for anything else."""
    if text is None or not _WHOLE_NUMBER.fullmatch(text):
        return default
    number = int(text)
    return number if -(2**63) <= number < 2**63 else default


def is_number(text: bytes) -> bool:
    """Whether a text is a whole number of 64 bits."""
    return number_of(text, 0) == number_of(text, 1)


def count_of(text: bytes | None) -> int:
    """A count of what waits; 0 for anything else, and for what no server could hold."""
    number = number_of(text)
    return number if 0 <= number < 2**48 else 0


def tenant_of(name: bytes) -> str | None:
    """The tenant that a name is; None for anything else."""
    try:
        text = name.decode("ascii")
        return text if checked_uuid("tenant", text) == text else None
    except (UnicodeDecodeError, InvalidId):
        return None


def name_of(name: bytes) -> str:
    """A name as text; bytes that are no UTF-8 are kept, as `raw_name` knows them."""
    return name.decode("utf-8", "surrogateescape")


def raw_name(name: str) -> bytes:
    """The inverse of `name_of`."""
    return name.encode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """A name for a person, in printable characters; the others as escapes."""
    text = name[:_MOST_SHOWN].decode("utf-8", "backslashreplace")
    return printable(text) + ("..." if len(name) > _MOST_SHOWN else "")


def answers(pipe: redis.client.Pipeline, *, or_refused: bool = False) -> list[Any]:
    """The answers to a pipeline's commands; None where a key is of another type than the command wants.

    Args:
        or_refused: None also where a key holds no number, or one that would overflow.

    Raises:
        BrokerUnavailable: Redis did not answer, or refused a command for another reason.
    """
    with broker_errors():
        found = pipe.execute(raise_on_error=False)
        for answer in found:
            if not isinstance(answer, Exception) or is_wrong_type(answer):
                continue
            if not (or_refused and is_no_number(answer)):
                raise answer
    return [None if isinstance(answer, Exception) else answer for answer in found]


def answer(command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The answer to one command of a client; None where its key is of another type than the command wants.

    Raises:
        BrokerUnavailable: Redis did not answer, or refused it for another reason.
    """
    with broker_errors():
        try:
            return command(*arguments, **options)
        except redis.ResponseError as error:
            if is_wrong_type(error):
                return None
            raise


def is_wrong_type(error: BaseException) -> bool:
    """Whether the server refused a command since its key is of another type."""
    return isinstance(error, redis.ResponseError) and _WRONG_TYPE in str(error)


def is_no_number(error: BaseException) -> bool:
    """Whether the server could not add to what a key holds."""
    return isinstance(error, redis.ResponseError) and any(text in str(error) for text in _NO_NUMBER)


def _check_depth(data: bytes) -> None:
    # Only what has many brackets is looked at closely: a message may hold some.
    if data.count(b"[") + data.count(b"{") <= MOST_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MOST_DEPTH:
            raise Unreadable(f"it is nested deeper than {MOST_DEPTH}")


def _whole_number(digits: str) -> int:
    number = int(digits) if len(digits) <= _MOST_DIGITS else 2**64
    if not -(2**63) <= number < 2**63:
        raise Unreadable("a number in it has more than 64 bits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise Unreadable("a number in it is out of range")
    return number


def _no_number(name: str) -> float:
    raise Unreadable(f"{name} is no JSON")


@functools.cache
def _fields_of(cls: Any) -> dict[str, tuple[Any, bool]]:
    """By name, the type that a field's value is an instance of, and whether it must be there."""
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        origin = typing.get_origin(hint)
        kind = hint if origin in (None, types.UnionType) else origin
        found[field.name] = (kind, field.default is dataclasses.MISSING)
    return found


def _check_text(name: str, text: str) -> None:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Unreadable(f"the field {name} is no text") from error
