"""Keeps payloads and secrets out of the lines that Celery and others write.

Celery's lines repeat what tasks return, the exceptions that they raise, and whole messages that it
cannot read. A producer that misspells a task's name would find its exports in the log.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from confkeep.errors import ConfkeepError

#: Beginnings of Celery's lines that repeat a message -> what is said in their place. None of the
#: arguments is known to be harmless.
_MESSAGES: Final = {
    "Received and deleted unknown message": "received and deleted a message that is no task",
    "Received unregistered task of type": "received and discarded a task that does not exist here",
    "Received invalid task message": "received and discarded an invalid task message",
    "Can't decode message body": "received and discarded a message that cannot be decoded",
    "TaskPool: Apply": "the pool takes a task",
    "Couldn't convert ETA": "a task's ETA cannot be read",
    "pidbox received method": "received a control command",
}
_RETURNED: Final = ": %(return_value)s"
#: A password in a URL.
_PASSWORD: Final = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]+(?=@)")


class Scrub(logging.Filter):
    """Rewrites records; lets all through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite one record in place."""
        message = record.msg if isinstance(record.msg, str) else ""
        for beginning, instead in _MESSAGES.items():
            if message.startswith(beginning):
                record.msg, record.args, record.exc_info = instead, (), None
        if isinstance(record.args, dict):
            record.msg = message.replace(_RETURNED, "")
            record.args = {**record.args, **_without_values(record)}
        elif record.args:
            record.args = tuple(
                describe(value) if isinstance(value, BaseException) else value
                for value in record.args
            )
        text = record.getMessage()
        if _PASSWORD.search(text):
            record.msg, record.args = _PASSWORD.sub("***", text), ()
        return True


def _without_values(record: logging.LogRecord) -> dict[str, Any]:
    """Celery's `exc` is the exception's `repr`: only of ours is it known what that holds."""
    assert isinstance(record.args, dict)
    error = record.exc_info[1] if record.exc_info else None
    if "exc" in record.args and error is not None:
        return {"exc": describe(error)}
    return {}


def describe(error: BaseException) -> str:
    """An exception's class; with what it says when that is known to hold no payload."""
    said = says(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def says(error: BaseException) -> str:
    """What an exception says, if it is known to hold no payload; else nothing."""
    if isinstance(error, ConfkeepError):
        return str(error)
    return (error.strerror or "") if isinstance(error, OSError) else ""


def exception_text(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None],
) -> str:
    """A traceback with the lines of code, but without what the exceptions say of values."""
    parts = []
    for error in chain_of(exc_info[1]):
        parts.append("Traceback (most recent call last):\n")
        # Celery hands over what is left of a traceback apart from the exception.
        rest = exc_info[2] if error is exc_info[1] else None
        parts += traceback.format_tb(error.__traceback__ or rest)
        parts.append(f"{describe(error)}\n")
    return "".join(parts).rstrip("\n")


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from, the causes first."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and before is not error:
        yield from chain_of(before)
    yield error
