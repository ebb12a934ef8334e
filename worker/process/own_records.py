"""Keeps a backup's record where Celery would store a task's result over it; workers install it.

Whoever sends a task chooses its id, and Celery stores its result under that id. A record that says what
was accepted guards that id and becomes the receipt: no task's result, and no answer to a further caller,
takes its place.
"""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend

from confkeep.queue import receipts


def install() -> None:
    """Keep Celery's results from overwriting backups' records, in this process and its children."""
    RedisBackend._set = _set  # noqa: SLF001 - it offers no other place


def _set(backend: Any, key: Any, value: Any, expires: Any = None) -> None:
    """Replaces `RedisBackend._set`."""
    receipts.store_answer(
        backend.client, key, value, int(backend.expires if expires is None else expires)
    )
