"""The Celery app: queues, routes and how messages are acknowledged.

`celery -A worker.app worker` starts a worker of the shards that the settings give it. Importing
this module reads no environment and opens nothing: the configuration is made when Celery first
asks for it. What acts on a whole process is in `worker.process.loader`, for workers of this app alone.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery import Task as CeleryTask
from kombu.entity import Queue

from confkeep import app as client
from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable, InvalidInput
from confkeep.settings import get_settings
from worker.observe.telemetry import TelemetryStep
from worker.process.broker_check import BrokerCheckStep
from worker.process.health import HeartbeatStep
from worker.process.metrics_server import MetricsStep
from worker.process.own_store import StoreStep
from worker.process.shutdown import ShutdownStep
from worker.process.sweep_step import SweeperStep

#: The modules that hold the tasks; names, since the runtime does not import what producers see.
TASK_MODULES = (
    "tasks.commit",
    "tasks.receive",
    "tasks.read",
    "tasks.maintain",
    "tasks.repack",
    "tasks.retention",
    "tasks.drill",
    "tasks.digest",
    "tasks.stale",
)

#: Seconds after which the broker gives an unacknowledged message to another worker. Well above the
#: longest slice and the longest countdown: a task that runs longer would run twice at once.
VISIBILITY_TIMEOUT_S = 120


def configuration() -> dict[str, Any]:
    """Celery's configuration for the environment's settings."""
    settings = get_settings()
    common = client.configuration_of(settings)
    shards = keys.shards_of_worker(settings.worker_index, settings.worker_count, settings.shards)
    names = [queue(shard) for shard in shards for queue in (keys.high_queue, keys.shard_queue)]
    queues = [Queue(name) for name in names]
    transport: dict[str, Any] = {
        **common["broker_transport_options"],
        # The consumer waits for a server that is away; what it sends in between must not.
        "max_retries": 0,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # A dead worker's messages come back within seconds; by default after up to 100.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        # How long a worker that dies while it restores them blocks the others; by default 300 s.
        "unacked_mutex_expire": 10,
    }
    return {
        **common,
        "include": TASK_MODULES,
        "task_queues": [*queues, Queue(keys.RECEIVE_QUEUE)],
        "task_default_queue": keys.RECEIVE_QUEUE,
        # Each backup's receipt is stored under its own id (confkeep.queue.receipts).
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # Three PUBLISHes were a third of what a wake-up costs the main process. Flower turns them on.
        # `task_send_sent_event` stays off: a producer's events would show arguments.
        "worker_send_task_events": False,
        "worker_consumer": "worker.process.consumer:Consumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A message that was taken is in `unacked`; fewer at a time would only add lines to the log.
        "worker_enable_prefetch_count_reduction": False,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": transport,
        # Celery sleeps all of it even when tasks are done: keep the shutdown well below 10 s.
        "worker_soft_shutdown_timeout": 3,
    }


class Task(CeleryTask):  # type: ignore[misc]
    """What all tasks of ours are."""

    #: A client's mistake is its own to see, and an outage is told by itself: Celery logs a line of the task,
    #: and no traceback.
    throws = (InvalidInput, BrokerUnavailable)


# Not the process's current app: a portal may import it beside an app of its own.
app = Celery(
    "confkeep",
    task_cls=Task,
    loader="worker.process.loader:Loader",
    events="worker.process.worker_events:Events",
    control="worker.process.worker_events:Control",
    set_as_current=False,
)
app.add_defaults(configuration)
app.steps["worker"].update(
    {
        ShutdownStep,
        BrokerCheckStep,
        StoreStep,
        HeartbeatStep,
        SweeperStep,
        MetricsStep,
        TelemetryStep,
    }
)
