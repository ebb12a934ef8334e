"""`BackupResult`, which an enqueue returns: ask it for the receipt, or await it."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Generator
from typing import Any
from weakref import WeakSet

import redis
from celery import Celery
from celery.exceptions import BackendError
from celery.exceptions import TimeoutError as NotReady
from celery.result import AsyncResult

from confkeep import awaiting
from confkeep.app import app as client
from confkeep.broker.broker_faults import explain
from confkeep.broker.connections import broker_errors
from confkeep.ids import checked_uuid
from confkeep.models import Receipt
from confkeep.observe.log_scrub import chain_of

#: Backends on whose connection a `get()` of this process has waited.
_waited_on: WeakSet[Any] = WeakSet()


class BackupResult(AsyncResult):  # type: ignore[misc]
    """The state of a backup: Celery's `AsyncResult` under the `backup_id`.

    For a backup that was enqueued before, make one from its id:
    `BackupResult(backup_id).receipt(timeout=60)`. In asyncio, `await` it.

    Raises:
        InvalidId: `backup_id` is no UUID.
    """

    def __init__(
        self,
        backup_id: str | uuid.UUID,
        backend: Any = None,
        *,
        app: Celery | None = None,
        **options: Any,
    ) -> None:
        if app is None:
            app, backend = client, backend or _backend()
        # Celery waits for the very text, and for another spelling for ever.
        super().__init__(checked_uuid("backup_id", backup_id), backend, app=app, **options)

    @property
    def backup_id(self) -> str:
        """The backup's id."""
        return str(self.id)

    def receipt(self, timeout: float | None = None) -> Receipt:
        """Wait until the backup is committed.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            NoReceipt: it is not committed yet. It is accepted all the same.
            PoisonedBackup: it became a dead letter.
            BrokerUnavailable: Redis failed meanwhile. It is accepted all the same.
        """
        try:
            return Receipt.of(self.get(timeout))
        except NotReady:
            raise awaiting.not_yet(self.backup_id, timeout) from None

    def __await__(self) -> Generator[Any, None, Receipt]:
        """Wait as `receipt` does, without a thread; `asyncio.wait_for` bounds it."""
        return awaiting.receipt(self.backup_id).__await__()

    def get(self, timeout: float | None = None, **options: Any) -> Any:
        """Wait for the receipt, as a dict with the fields of `confkeep.Receipt`.

        You may call it in a task of your own, where Celery usually forbids waiting: confkeep's
        workers commit, so your task blocks nothing that it waits for.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            celery.exceptions.TimeoutError: it is not committed yet. It is accepted all the same.
            PoisonedBackup: it became a dead letter.
            BrokerUnavailable: Redis failed meanwhile. It is accepted all the same.
        """
        _mind_forks()
        _waited_on.add(self.backend)
        try:
            with broker_errors():
                # A first look keeps what it finds: Celery's wait would subscribe to the receipt and end
                # that again, also where the receipt is there.
                self.ready()
                return super().get(timeout, **{"disable_sync_subtasks": False, **options})
        except (RuntimeError, BackendError) as error:
            # Celery raises these after an outage that outlasts its retries.
            if any(isinstance(cause, redis.RedisError) for cause in chain_of(error)):
                raise explain(error) from error
            raise


def _backend() -> Any:
    """Where receipts are; `confkeep.testing` puts its own in this place."""
    return client.backend


@functools.cache
def _mind_forks() -> None:
    """Give forked children their own connections.

    Celery does so only for multiprocessing's children; gunicorn uses a bare fork.
    """
    os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for backend in list(_waited_on):
        backend.result_consumer._after_fork()  # noqa: SLF001 - Celery offers no other way
