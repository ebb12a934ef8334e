"""The Celery task `backups.commit_inbox`: lets `worker.engine.drain` do a turn, and retries."""

from __future__ import annotations

import contextlib
from typing import Any

from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, InvalidInput, QueueError, StoreError
from confkeep.ids import checked_uuid
from confkeep.queue import wakeups
from confkeep.settings import get_settings
from worker.app import Task, app
from worker.engine import drain, repack
from worker.process import waits
from worker.queue import backoff
from worker.queue.inbox import Inbox


class CommitTask(Task):
    """Lets a tenant wait after an unforeseen error too; the sweep then tries again."""

    def on_failure(
        self,
        exc: BaseException,
        task_id: str,  # noqa: ARG002 - Celery's signature
        args: Any,
        kwargs: Any,
        einfo: Any,  # noqa: ARG002
    ) -> None:
        """Note the failure with the inbox; Celery logs it."""
        if isinstance(exc, InvalidInput):
            return
        tenant_id = args[0] if args else kwargs.get("tenant_id")
        with contextlib.suppress(BrokerUnavailable, InvalidInput):
            tenant_id = checked_uuid("tenant_id", tenant_id)
            settings = get_settings()
            noted = backoff.failed(Inbox(get_client(settings), settings, tenant_id), exc)
            waits.tell_failed(settings, tenant_id, noted)


@app.task(name=wakeups.COMMIT_TASK, base=CommitTask, bind=True, max_retries=None)  # type: ignore[untyped-decorator]
def commit_inbox(self: Task, tenant_id: str, sent_ms: int | None = None) -> None:
    """Commit what waits in a tenant's inbox. When the slice is over, go on at the queue's tail.

    After a fault of the system every entry stays and the task tries again, later and later, for ever. If
    Redis is away nothing can be noted; the sweep wakes the tenant when it is back.
    """
    tenant_id = checked_uuid("tenant_id", tenant_id)
    if sent_ms is not None and type(sent_ms) is not int:
        raise InvalidInput("sent_ms", "must be a whole number of milliseconds")
    settings = get_settings()
    inbox = Inbox(get_client(settings), settings, tenant_id)
    try:
        try:
            turn = drain.drain_inbox(inbox, sent_ms, retry=bool(self.request.retries))
        except (StoreError, QueueError) as error:
            delay_s = drain.note_fault(inbox, error)
            raise self.retry(exc=error, countdown=delay_s) from error
        if turn.committed:
            repack.ask_if_needed(inbox)
        if turn.left:
            # Behind the shard's other tenants, or behind what persons wait for.
            wakeups.send(app, settings, tenant_id, turn.ended_ms, high=turn.high)
    except (BrokerUnavailable, OperationalError, Reject) as error:
        # Celery makes a `Reject` of a retry that it cannot send.
        waits.tell_away(tenant_id, error)
