"""The baseline "no-op": Celery tasks that do nothing and store their results; bench only.

Configured as confkeep's own app where that matters: the same broker, acknowledged late.
"""

from __future__ import annotations

import base64
from typing import Any

from celery import Celery

from confkeep.settings import get_settings
from tests.bench import plain
from worker.app import configuration
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, repository_path

app = Celery("noop", set_as_current=False)


def _configuration() -> dict[str, Any]:
    own = configuration()
    kept = (
        "broker_url",
        "result_backend",
        "accept_content",
        "task_serializer",
        "result_serializer",
        "task_acks_late",
        "task_reject_on_worker_lost",
        "broker_connection_retry_on_startup",
        "broker_transport_options",
    )
    return {
        **{name: own[name] for name in kept},
        "task_default_queue": "noop",
        "task_ignore_result": False,
        "result_expires": 3600,
        # Celery's default: with the product's 1, no-ops are slower.
        "worker_prefetch_multiplier": 4,
    }


app.add_defaults(_configuration)


@app.task(name="bench.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    """Do nothing."""


@app.task(name="bench.plain")  # type: ignore[untyped-decorator]
def keep(tenant_id: str, values: dict[str, str]) -> str:
    """Commit one backup with the plain writer: what one Celery task per backup costs."""
    repository = create_repository(repository_path(get_settings().git_store_path, tenant_id))
    backup = Backup(
        backup_id=values["backup_id"],
        device_id=values["device_id"],
        export=values["export"].encode(),
        binary=base64.b64decode(values["binary"]),
        message=values["message"],
    )
    return plain.commit_backup(repository, backup).sha
