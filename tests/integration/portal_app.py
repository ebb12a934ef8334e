"""A portal's own Celery app, beside confkeep's client, with its own broker, logging and structlog context.

celery -A tests.integration.portal_app worker --logfile FILE -l ERROR
"""

from __future__ import annotations

import logging
import os
from typing import Any

import structlog
from celery import Celery, signals
from kombu.transport import redis as kombu_redis

from tasks import enqueue_backup

app = Celery("portal", broker=os.environ["PORTAL_URL"], backend=os.environ["PORTAL_URL"])
log = logging.getLogger("portal")


@app.task  # type: ignore[untyped-decorator]
def back_up(tenant_id: str, device_id: str, wait_s: float) -> dict[str, Any]:
    """Hand over, and wait for the commit within a task."""
    structlog.contextvars.bind_contextvars(request="of the portal")
    log.error("the portal speaks")
    receipt: dict[str, Any] = enqueue_backup(tenant_id, device_id, "/ip", None, "m").get(wait_s)
    return receipt


@app.task  # type: ignore[untyped-decorator]
def look() -> dict[str, Any]:
    """What this process looks like, after another task."""
    root = logging.getLogger()
    return {
        "context": structlog.contextvars.get_contextvars(),
        "channel": kombu_redis.Transport.Channel.__module__,
        "handlers": [type(handler).__module__ for handler in root.handlers],
        "receivers": sorted(
            receiver.__module__
            for signal in vars(signals).values()
            if isinstance(signal, signals.Signal)
            for receiver in signal._live_receivers(None)
        ),
    }
