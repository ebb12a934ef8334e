"""A portal's own `tasks.py`: a Celery app with its own broker, logging and structlog context.

The tests put it beside a package `worker` of the portal's:

    celery -A tasks worker --logfile FILE -l ERROR
"""

from __future__ import annotations

import logging
import os
from typing import Any

import structlog
from celery import Celery, signals
from kombu.transport import redis as kombu_redis

import worker
from confkeep import enqueue_backup

app = Celery("portal", broker=os.environ["PORTAL_URL"], backend=os.environ["PORTAL_URL"])
log = logging.getLogger("portal")


@app.task  # type: ignore[untyped-decorator]
def back_up(tenant_id: str, device_id: str, wait_s: float) -> dict[str, Any]:
    """Hand over, and wait for the commit within a task."""
    structlog.contextvars.bind_contextvars(request="of the portal")
    log.error("the portal speaks")
    receipt = enqueue_backup(tenant_id, device_id, "/ip", None, "m").receipt(wait_s)
    return receipt.model_dump(mode="json")


@app.task  # type: ignore[untyped-decorator]
def look() -> dict[str, Any]:
    """What this process looks like, after another task."""
    root = logging.getLogger()
    return {
        "context": structlog.contextvars.get_contextvars(),
        "channel": kombu_redis.Transport.Channel.__module__,
        "handlers": [type(handler).__module__ for handler in root.handlers],
        "worker": worker.__doc__,
        "receivers": sorted(
            receiver.__module__
            for signal in vars(signals).values()
            if isinstance(signal, signals.Signal)
            for receiver in signal._live_receivers(None)
        ),
    }
