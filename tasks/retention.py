"""The Celery task `backups.retention`, routed like commits."""

from __future__ import annotations

import time
from typing import Any

from confkeep.errors import TenantLocked
from confkeep.ids import checked_uuid
from confkeep.observe.logs import get_logger
from confkeep.settings import get_settings
from worker.app import app
from worker.engine.retention import apply, to_json

log = get_logger("retention")


# Acknowledged before it runs: one that takes longer than the visibility timeout would run twice.
@app.task(name="backups.retention", ignore_result=False, acks_late=False)  # type: ignore[untyped-decorator]
def retention(tenant_id: str) -> dict[str, Any]:
    """Remove what the tenant's rules do not keep, and prune what went longer ago than the grace time.

    Raises:
        NotInStore: the tenant has no repository.
        InvalidInput: an argument is not what it must be.
        QueueError, StoreError: a fault of the system; the next run goes on.
    """
    tenant_id = checked_uuid("tenant_id", tenant_id)
    started = time.monotonic()
    settings = get_settings()
    try:
        applied = apply(settings, tenant_id)
    except TenantLocked:
        return {"tenant_id": tenant_id, "outcome": "locked"}
    log.info(
        "applied a tenant's retention",
        action="retention.applied",
        tenant_id=tenant_id,
        captures_removed=applied.plan.captures_removed,
        binaries_removed=applied.plan.binaries_removed,
        pruned=applied.pruned,
        seconds=round(time.monotonic() - started, 4),
    )
    return to_json(settings, tenant_id, applied)
