"""The Celery app: queues, routes and how messages are acknowledged; it holds no task.

`celery -A worker.app worker` starts a worker of the shards that the settings give it. Importing
this module reads no environment and opens nothing: the configuration is made when Celery first
asks for it. What acts on a whole process is in `worker.process.loader`, for workers of this app alone.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Queue

from worker import urls
from worker.broker import keys
from worker.observe.telemetry import TelemetryStep
from worker.process.broker_check import BrokerCheckStep
from worker.process.health import HeartbeatStep
from worker.process.metrics_server import MetricsStep
from worker.process.sweeper import SweeperStep
from worker.settings import get_settings

#: The modules that hold the tasks; names, since the runtime does not import what producers see.
TASK_MODULES = (
    "tasks.commit",
    "tasks.receive",
    "tasks.read",
    "tasks.maintain",
    "tasks.repack",
    "tasks.retention",
    "tasks.drill",
)

#: Seconds after which the broker gives an unacknowledged message to another worker. Well above the
#: longest slice and the longest countdown: a task that runs longer would run twice at once.
VISIBILITY_TIMEOUT_S = 120


def configuration() -> dict[str, Any]:
    """Celery's configuration for the environment's settings."""
    settings = get_settings()
    url, options = urls.for_celery(settings.redis_url)
    if "sentinel_kwargs" in options:
        options["sentinel_kwargs"] |= {
            "socket_timeout": settings.redis_timeout_s,
            "socket_connect_timeout": settings.redis_timeout_s,
            # The next sentinel is the next try: redis-py asks a dead one for four seconds by default.
            "retry": None,
        }
    shards = keys.shards_of_worker(settings.worker_index, settings.worker_count, settings.shards)
    queues = [Queue(keys.shard_queue(shard)) for shard in shards]
    transport: dict[str, Any] = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # A dead worker's messages come back in seconds; by default after up to 100.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # A worker that dies while it restores them keeps all others from it so long; else 300.
        "unacked_mutex_expire": 10,
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
        "include": TASK_MODULES,
        "task_queues": [*queues, Queue(keys.RECEIVE_QUEUE)],
        "task_default_queue": keys.RECEIVE_QUEUE,
        # Each backup's receipt is stored under its own id (worker.queue.receipts).
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # For Flower and `celery events`. To nobody's ears they are a PUBLISH each, and kept nowhere.
        # `task_send_sent_event` stays off: what a producer sends then would tell arguments.
        "worker_send_task_events": True,
        "worker_consumer": "worker.process.consumer:Consumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A message that was taken is in `unacked`; fewer at a time would only add lines to the log.
        "worker_enable_prefetch_count_reduction": False,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
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
        # Slept whole, also when the tasks are done: with a batch and the rest, well below 10 seconds.
        "worker_soft_shutdown_timeout": 3,
    }


# Not the process's current app: producers import this beside an app of their own.
app = Celery("confkeep", loader="worker.process.loader:Loader", set_as_current=False)
app.add_defaults(configuration)
app.steps["worker"].add(TelemetryStep)
app.steps["worker"].add(HeartbeatStep)
app.steps["worker"].add(BrokerCheckStep)
app.steps["worker"].add(SweeperStep)
app.steps["worker"].add(MetricsStep)
