"""What an enqueue returns: a result under the backup's id, to be asked, waited for or awaited."""

from __future__ import annotations

import functools
import os
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
from confkeep.models import Receipt
from confkeep.observe.log_scrub import chain_of

#: The backends whose connection some `get()` of this process waits on, or waited on.
_waited_on: WeakSet[Any] = WeakSet()


class BackupResult(AsyncResult):  # type: ignore[misc]
    """The state of a backup: Celery's `AsyncResult` under the `backup_id`.

    Made of an id alone it is the result of a backup that was enqueued before:
    `BackupResult(backup_id).receipt(timeout=60)`. `await` it in asyncio, which holds no thread.
    """

    def __init__(
        self, backup_id: str, backend: Any = None, *, app: Celery | None = None, **options: Any
    ) -> None:
        if app is None:
            app, backend = client, backend or _backend()
        super().__init__(backup_id, backend, app=app, **options)

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
            BrokerUnavailable: Redis went away meanwhile. It is accepted all the same.
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

        May be called in a task of your own workers too, where Celery forbids to wait for tasks: it
        is confkeep's workers that commit, and none of yours is needed for that.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            celery.exceptions.TimeoutError: it is not committed yet. It is accepted all the same.
            PoisonedBackup: it became a dead letter.
            BrokerUnavailable: Redis went away meanwhile. It is accepted all the same.
        """
        _mind_forks()
        _waited_on.add(self.backend)
        try:
            with broker_errors():
                return super().get(timeout, **{"disable_sync_subtasks": False, **options})
        except (RuntimeError, BackendError) as error:
            # What Celery makes of an outage that outlasts its tries.
            if any(isinstance(cause, redis.RedisError) for cause in chain_of(error)):
                raise explain(error) from error
            raise


def _backend() -> Any:
    return client.backend


@functools.cache
def _mind_forks() -> None:
    """Let children of this process wait on connections of their own.

    Celery does so for the children that multiprocessing makes; gunicorn's come from a bare fork.
    """
    os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for backend in list(_waited_on):
        backend.result_consumer._after_fork()  # noqa: SLF001 - Celery offers no other way
