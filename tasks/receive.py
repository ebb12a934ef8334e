"""The Celery task `backups.receive`, for producers with only a broker URL.

Send it to the queue `backups.receive` with the keyword arguments of `confkeep.models.ReceivedBackup`.
The receipt, or the error, lands under the task's own id.
"""

from __future__ import annotations

from typing import Any

from celery.exceptions import Reject

from confkeep.errors import QueueError
from worker.app import Task, app
from worker.engine.receive import accept

#: Most seconds between two tries while Redis or the volume refuses.
_LONGEST_DELAY_S = 60


@app.task(  # type: ignore[untyped-decorator]
    name="backups.receive",
    bind=True,
    max_retries=None,
    # Monitors see ids in place of the backup.
    Request="worker.process.quiet_request:QuietRequest",
    store_errors_even_if_ignored=True,
)
def receive(self: Task, /, **backup: Any) -> None:
    """Accept one backup from any Celery client."""
    # What lands under the task's id is the receipt, once there is one, and not our return.
    self.request.ignore_result = True
    try:
        accept(self.request.id, backup)
    except QueueError as error:
        delay = min(_LONGEST_DELAY_S, 2 ** min(self.request.retries, 6))
        try:
            raise self.retry(exc=error, countdown=delay) from error
        except Reject as lost:
            # The server does not take the retry either: the message goes back where it came from.
            raise Reject(lost.reason, requeue=True) from error
