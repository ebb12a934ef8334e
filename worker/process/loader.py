"""Sets up the process of a confkeep worker: logging, signals, and a kombu channel that refuses foreign messages.

Celery calls the loader of an app only when a worker of that app starts. A program that imports `tasks`
but runs a worker of its own app keeps its logging, its structlog context and its kombu.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import Any

from celery import signals
from celery.loaders.app import AppLoader

from confkeep.observe import logs
from confkeep.settings import get_settings
from worker.observe import measure, stray_lines, telemetry
from worker.process import gated_channel, own_records, shutdown, tied, waits


class Loader(AppLoader):  # type: ignore[misc]
    """Connects Celery's signals when a worker of this app starts. They act on the whole process."""

    def on_worker_init(self) -> None:
        """Connect the signals, before Celery sets up its logging and forks."""
        signals.setup_logging.connect(_set_up_logging)
        signals.worker_init.connect(_prepare_worker)
        signals.worker_process_init.connect(partial(_after_fork, os.getpid()), weak=False)
        signals.worker_process_shutdown.connect(telemetry.stop)
        signals.task_prerun.connect(logs.bind_task)
        signals.task_postrun.connect(logs.unbind_task)


def _set_up_logging(**_: Any) -> None:
    settings = get_settings()
    logs.configure(settings)
    if settings.log_format == "json":
        stray_lines.catch()
        stray_lines.catch_celerys()


def _prepare_worker(sender: Any, **_: Any) -> None:
    shutdown.prepare()
    waits.quiet_celery()
    gated_channel.install(sender.app)
    own_records.install()


def _after_fork(main_pid: int, **_: Any) -> None:
    # In a pool without processes Celery sends this signal too.
    if os.getpid() != main_pid and sys.platform == "linux":
        # Those of a worker that is killed while it starts hold each other's pipes, and would wait for ever.
        tied.end_with(main_pid, signal.SIGKILL)
    measure.after_fork()
    telemetry.start(get_settings())
