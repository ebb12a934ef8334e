"""Celery's consumer, which shows that its loop turns; workers load it by name, producers never.

Celery's configuration names it (`worker_consumer`).
"""

from __future__ import annotations

from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

from worker.health import LOOP_INTERVAL_S
from worker.heartbeat import Mark


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Marks from a timer of its loop."""

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery calls this for each connection, and cancels the timer when that is lost."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(LOOP_INTERVAL_S, self._turned)

    def _turned(self) -> None:
        heartbeat = getattr(self.controller, "heartbeat", None)
        if heartbeat is not None:
            heartbeat.mark(Mark.LOOP)
