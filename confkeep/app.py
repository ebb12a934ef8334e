"""The Celery app with which producers send backups and wait for receipts.

Importing it reads no environment and opens no connection: Celery asks for the configuration on first
use. The workers' app, `worker.app`, uses the same configuration.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from confkeep import urls
from confkeep.settings import Settings, get_settings


def configuration() -> dict[str, Any]:
    """Celery's configuration for the environment's settings."""
    return configuration_of(get_settings())


def configuration_of(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for sending messages and waiting for results."""
    url, options = urls.for_celery(settings.redis_url)
    if "sentinel_kwargs" in options:
        options["sentinel_kwargs"] |= {
            "socket_timeout": settings.redis_timeout_s,
            "socket_connect_timeout": settings.redis_timeout_s,
            # The next sentinel is the next try: redis-py asks a dead one for four seconds by default.
            "retry": None,
        }
    transport: dict[str, Any] = {
        # Without a timeout a half-open connection is never noticed.
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "health_check_interval": 10,
        "priority_steps": [0],
        **options,
    }
    if not url.startswith("redis+socket"):
        transport["socket_keepalive"] = True
    return {
        "broker_url": url,
        "result_backend": url,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "broker_transport_options": transport,
        "result_expires": settings.receipt_ttl_s,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": settings.redis_timeout_s,
        "redis_backend_health_check_interval": 30,
        "result_backend_always_retry": True,
        "result_backend_max_retries": 3,
        "result_backend_transport_options": {
            **options,
            "retry_policy": {
                "max_retries": 2,
                "interval_start": 0,
                "interval_step": 0.2,
                "interval_max": 0.5,
            },
        },
    }


# Not the process's current app: producers import this beside an app of their own.
app = Celery("confkeep", set_as_current=False)
app.add_defaults(configuration)
