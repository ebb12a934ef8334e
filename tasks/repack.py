"""The Celery task `backups.repack`, routed like commits. It returns at once; git works beside the commits."""

from __future__ import annotations

from confkeep.ids import checked_uuid
from worker.app import app
from worker.engine.repack import QUEUE, REPACK_TASK


@app.task(name=REPACK_TASK)  # type: ignore[untyped-decorator]
def repack(tenant_id: str, full: bool = False) -> None:
    """Repack a tenant's repository beside its commits; returns before that is done.

    Args:
        full: make one pack of all, with good deltas; else only when that pays, once a week at most.
    """
    QUEUE.put(checked_uuid("tenant_id", tenant_id), full=bool(full))
