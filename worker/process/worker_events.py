"""Celery's events of a worker, such as its heartbeat for Flower: each is tried once, and waits for no server.

Celery asks kombu to retry a heartbeat until it gets through. While the server is away, the main process would
hang in that, deaf to SIGTERM, and notice the server's return up to half a minute late. Tried once, an event goes
to Celery's buffer, and the consumer meets the outage itself and waits for its end.
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher


class Dispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends events without a retry, whoever asks for one."""

    def _publish(self, event: Any, producer: Any, routing_key: str, **_retry: Any) -> None:
        super()._publish(event, producer, routing_key)


class Events(CeleryEvents):  # type: ignore[misc]
    """What the app names as its events."""

    dispatcher_cls = f"{Dispatcher.__module__}:{Dispatcher.__name__}"
