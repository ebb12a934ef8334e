"""Celery's consumer, which shows that its loop turns; workers load it by name, producers never.

Celery's configuration names it (`worker_consumer`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

from worker.health import LOOP_INTERVAL_S
from worker.heartbeat import Mark


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Marks from a timer of the loop, and while it waits for a broker that is away."""

    def turned(self) -> None:
        """The main thread came by."""
        heartbeat = getattr(self.controller, "heartbeat", None)
        if heartbeat is not None:
            heartbeat.mark(Mark.LOOP)

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery calls this for each connection, and cancels the timer when that is lost."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(LOOP_INTERVAL_S, self.turned)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and mark at each second of waiting between two tries."""
        ensure = conn.ensure_connection

        def ensure_connection(
            errback: Any, max_retries: Any, callback: Callable[[], object], **options: Any
        ) -> Any:
            def turning() -> None:
                self.turned()
                callback()

            return ensure(errback, max_retries, callback=turning, **options)

        self.turned()
        conn.ensure_connection = ensure_connection
        return super().ensure_connected(conn)
