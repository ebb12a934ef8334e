"""Keeps a backup's record where Celery would store a task's result over it, and stores the hints of errors.

Workers install it.

Whoever sends a task chooses its id, and Celery stores its result under that id. A record that says what
was accepted guards that id and becomes the receipt: no task's result, and no answer to a further caller,
takes its place.

Of an error Celery stores the name of its class and its arguments. Who asked a worker gets the hint too.
"""

from __future__ import annotations

from typing import Any

from celery.backends.base import BaseBackend
from celery.backends.redis import RedisBackend

from confkeep.errors import ConfkeepError
from confkeep.queue import receipts


def install() -> None:
    """Change how Celery stores results, in this process and its children."""
    RedisBackend._set = _set  # noqa: SLF001 - it offers no other place
    RedisBackend.prepare_exception = _prepare_exception


def _set(backend: Any, key: Any, value: Any, expires: Any = None) -> None:
    """Replaces `RedisBackend._set`."""
    receipts.store_answer(
        backend.client, key, value, int(backend.expires if expires is None else expires)
    )


def _prepare_exception(backend: Any, exc: Any, serializer: Any = None) -> Any:
    """Replaces `RedisBackend.prepare_exception`."""
    told = BaseBackend.prepare_exception(backend, exc, serializer)
    if isinstance(exc, ConfkeepError) and exc.hint != type(exc).hint:
        told[receipts.HINT] = exc.hint
    return told
