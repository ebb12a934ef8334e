"""Repacks tenants beside their commits: asks for it, and one thread of the process does it.

A repack takes seconds, a full one of a large tenant many minutes. What a process that ends had in
its queue is asked for again by a later turn: the flag of the request expires.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Final

import redis
from kombu.exceptions import OperationalError

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import ConfkeepError
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings, get_settings
from worker.app import app
from worker.observe import unforeseen
from worker.process import shutdown
from worker.queue.inbox import Inbox
from worker.store.git.git_process import git_problem
from worker.store.repository.tenant_repository import repository_path
from worker.store.upkeep.repack import needs_repack
from worker.store.upkeep.repack import repack as repack_repository

log = get_logger("repack")

REPACK_TASK: Final = "backups.repack"

#: Seconds until a repack is asked for again that did not run, or failed.
_ASK_AGAIN_S: Final = 600


def ask_if_needed(inbox: Inbox) -> None:
    """Queue a repack of a tenant that has too many packs or loose objects, once.

    Costs two listings of folders. No error of the queue leaves this: a later drain asks again.
    """
    client, settings, tenant_id = inbox.client, inbox.settings, inbox.tenant_id
    # `confkeep status` tells of a git that cannot do it; asking would only fill the log.
    if (
        not _is_needed(settings, repository_path(settings.git_store_path, tenant_id))
        or git_problem()
    ):
        return
    try:
        if client.set(keys.repack(tenant_id), "1", nx=True, ex=_ASK_AGAIN_S):
            app.send_task(
                REPACK_TASK,
                args=(tenant_id,),
                queue=keys.queue_of(tenant_id, settings.shards),
                ignore_result=True,
                retry=False,
            )
    except (redis.RedisError, OperationalError) as error:
        log.warning(
            "could not queue a repack",
            action="repack.not_queued",
            tenant_id=tenant_id,
            error=type(error).__name__,
        )


def _is_needed(settings: Settings, path: Path) -> bool:
    return settings.repack_packs > 0 and needs_repack(
        path, most_packs=settings.repack_packs, most_loose=settings.repack_loose_objects
    )


class _Queue:
    """The tenants that this process is to repack, and the thread that does while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, bool]] = deque()
        #: The process whose thread runs; a child made by fork has none.
        self._runs_in: int | None = None

    def put(self, tenant_id: str, *, full: bool) -> None:
        """Let the thread repack a tenant, soon; returns at once."""
        with self._lock:
            if (tenant_id, full) not in self._waiting:
                self._waiting.append((tenant_id, full))
            if self._runs_in != os.getpid():
                self._runs_in = os.getpid()
                threading.Thread(target=self._run, name="repack", daemon=True).start()

    def _next(self) -> tuple[str, bool] | None:
        with self._lock:
            if not self._waiting or shutdown.requested():
                self._runs_in = None
                return None
            return self._waiting.popleft()

    def _run(self) -> None:
        while (request := self._next()) is not None:
            try:
                _repack(*request)
            except (ConfkeepError, OSError, redis.RedisError) as error:
                log.warning(
                    "a repack failed",
                    action="repack.failed",
                    tenant_id=request[0],
                    error=f"{type(error).__name__}: {error}",
                )
            except Exception as error:  # noqa: BLE001 - else this process would never repack again
                unforeseen.note(log, "repack", "repack a tenant", error)


#: The one of this process.
QUEUE: Final = _Queue()


def _repack(tenant_id: str, full: bool) -> None:
    settings = get_settings()
    path = repository_path(settings.git_store_path, tenant_id)
    _run(tenant_id, path, full=True if full else None)
    # Only now: what failed is not asked for again at once.
    get_client(settings).delete(keys.repack(tenant_id))
    if _is_needed(settings, path):
        # What was committed meanwhile asked for nothing, since this one was asked for; and after a burst's
        # last commit nobody asks. Once: a repository may need more packs than the setting allows.
        _run(tenant_id, path, full=None)


def _run(tenant_id: str, path: Path, *, full: bool | None) -> None:
    done = repack_repository(path, full=full, stop=shutdown.requested)
    log.info(
        "repacked a repository",
        action="repack.done",
        tenant_id=tenant_id,
        full=done.full,
        packs_before=done.packs_before,
        packs_after=done.packs_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        loose_before=done.loose_before,
        seconds=round(done.duration_s, 3),
        no_full=done.no_full,
    )
