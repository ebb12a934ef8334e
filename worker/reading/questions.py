"""What a worker answers for a reader elsewhere: the methods of `StoreReader`, by name, over JSON."""

from __future__ import annotations

import typing
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, validate_call

from confkeep.errors import InvalidInput
from worker.reading.store_reader import StoreReader

#: The methods that may be asked; all are about one tenant.
QUESTIONS: Final = (
    *("entry", "counts", "directory", "page", "device", "versions", "version"),
    *("file", "diff", "since", "commits", "receipt_in", "search"),
)


def answer(store: Path, what: str, arguments: dict[str, Any]) -> Any:
    """Ask the store here.

    Args:
        what: one of `QUESTIONS`.
        arguments: the method's arguments by name, as `as_json` made them.

    Returns:
        A JSON value, for `from_json`.

    Raises:
        InvalidInput: there is no such question, or its arguments are of other types.
    """
    if what not in QUESTIONS:
        raise InvalidInput("what", "is no question")
    try:
        found = validate_call(getattr(StoreReader(store), what))(**arguments)
    except (TypeError, ValueError) as error:
        if type(error).__module__.startswith("confkeep"):
            raise
        raise InvalidInput("arguments", "are of other types") from None
    return _answer_type(what).dump_python(found, mode="json")


def as_json(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if value is None else TypeAdapter(type(value)).dump_python(value, mode="json")
        for name, value in arguments.items()
    }


def from_json(what: str, value: Any) -> Any:
    """The answer to a question, from its JSON value.

    Raises:
        ValueError: it is none.
    """
    return _answer_type(what).validate_python(value)


@cache
def _answer_type(what: str) -> TypeAdapter[Any]:
    hints = typing.get_type_hints(getattr(StoreReader, what))
    return TypeAdapter(hints["return"])
