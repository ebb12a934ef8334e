"""Reads what `confkeep status` shows: from the server, and from the store if that is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import redis

from confkeep import modes
from confkeep.errors import StoreError
from confkeep.settings import Settings
from worker.process.broker_check import find_problems
from worker.process.workers import WorkerStatus, list_workers
from worker.queue import backoff, oddities, refused, strays
from worker.queue.backoff import Backoff
from worker.queue.dead_letters import DeadLetter, list_dead_letters
from worker.queue.inboxes import (
    InboxStatus,
    Load,
    list_inboxes,
    queue_depths,
    read_load,
    server_time_ms,
)
from worker.queue.oddities import Oddity
from worker.store.git import refs
from worker.store.git.durable import file_system_errors
from worker.store.git.git_process import git_problem
from worker.store.repository.tenant_repository import (
    repository_path,
    require_store,
    tenants_of,
)
from worker.store.upkeep.repack_state import read_state


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the store's files say."""

    tenants: list[str]
    #: How many repositories every user of the machine may enter. We create none like that.
    exposed: int
    #: What is wrong with the machine's git; None if nothing is.
    git: str | None
    #: Tenant -> why its last repack did not run.
    skipped: dict[str, str]
    #: Tenant -> why it cannot be read.
    unreadable: dict[str, str]
    #: Why the store itself cannot be read, such as that it is not on this machine; None if it can be.
    refusal: StoreError | None


@dataclass(frozen=True, slots=True)
class Status:
    """A deployment's state."""

    server_ms: int
    #: Why the server may lose what it acknowledged.
    broker_problems: list[str]
    workers: list[WorkerStatus]
    inboxes: list[InboxStatus]
    waits: Mapping[str, Backoff]
    load: Load
    #: Wake-ups that wait, by shard; the empty ones left out.
    depths: dict[int, int]
    dead: list[DeadLetter]
    odd: list[Oddity]
    refused_messages: int
    #: Ids of backups in the queue where no worker reads.
    astray: list[str]
    store: StoreStatus


def read_status(client: redis.Redis, settings: Settings) -> Status:
    """Look at everything once.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    inboxes = list_inboxes(client)
    tenant_ids = [box.tenant_id for box in inboxes]
    return Status(
        server_ms=server_time_ms(client),
        broker_problems=find_problems(client, ask_all=False),
        workers=list_workers(client),
        inboxes=inboxes,
        waits=backoff.get_many(client, tenant_ids),
        load=read_load(client),
        depths={shard: n for shard, n in queue_depths(client, settings).items() if n},
        dead=list_dead_letters(client),
        odd=oddities.look(client, tenant_ids),
        refused_messages=refused.count(client),
        astray=strays.find(client),
        store=_read_store(settings),
    )


def _read_store(settings: Settings) -> StoreStatus:
    store = settings.git_store_path
    tenants: list[str] = []
    skipped: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    refusal: StoreError | None = None
    try:
        with file_system_errors(str(store)):
            require_store(store)
            tenants = tenants_of(store)
    except StoreError as error:
        refusal = error
    for tenant_id in tenants:
        path = repository_path(store, tenant_id)
        try:
            with file_system_errors(path.name):
                reason = read_state(path).skipped
                refs.read_main(path)
        except StoreError as error:
            unreadable[tenant_id] = str(error)
        else:
            skipped |= {tenant_id: reason} if reason else {}
    exposed = _exposed(settings, tenants)
    return StoreStatus(tenants, exposed, git_problem(), skipped, unreadable, refusal)


def _exposed(settings: Settings, tenants: Sequence[str]) -> int:
    """How many repositories every user of the machine may enter. We create none like that."""
    store = settings.git_store_path
    if not tenants or not modes.is_open_to_others(store):
        return 0
    found = 0
    for tenant in tenants:
        # One that is gone by now, or that we may not look at, is not open to others.
        with suppress(OSError):
            found += modes.is_open_to_others(repository_path(store, tenant))
    return found
