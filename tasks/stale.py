"""The Celery task `backups.note_stale`: looks for stale devices where the repositories are; the sweep sends it."""

from __future__ import annotations

from confkeep.broker.connections import get_client
from confkeep.errors import InvalidInput
from confkeep.queue.wakeups import STALE_TASK
from confkeep.settings import get_settings
from worker.app import app
from worker.engine import stale


@app.task(name=STALE_TASK)  # type: ignore[untyped-decorator]
def note_stale(shard: int) -> None:
    """Note the stale devices of a shard's tenants, and tell of changes as events."""
    if not isinstance(shard, int):
        raise InvalidInput("shard", "must be a whole number")
    stale.note_shard(get_client(), get_settings(), shard)
