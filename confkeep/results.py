"""What an enqueue returns: Celery's result under the backup's id, fit for a portal's processes."""

from __future__ import annotations

import functools
import os
from typing import Any
from weakref import WeakSet

import redis
from celery.exceptions import BackendError
from celery.result import AsyncResult

from confkeep.broker.broker_faults import explain
from confkeep.broker.connections import broker_errors
from confkeep.observe.log_scrub import chain_of

#: The backends whose connection some `get()` of this process waits on, or waited on.
_waited_on: WeakSet[Any] = WeakSet()


class BackupResult(AsyncResult):  # type: ignore[misc]
    """The state of a backup. Its id is the `backup_id`, and `result` its receipt."""

    def get(self, timeout: float | None = None, **options: Any) -> Any:
        """Wait for the receipt.

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


@functools.cache
def _mind_forks() -> None:
    """Let children of this process wait on connections of their own.

    Celery does so for the children that multiprocessing makes; gunicorn's come from a bare fork.
    """
    os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for backend in list(_waited_on):
        backend.result_consumer._after_fork()  # noqa: SLF001 - Celery offers no other way
