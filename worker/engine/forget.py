"""Erases a device or a tenant everywhere: in git, in Redis and in the staging."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import BackupsWaiting, NotInStore
from confkeep.ids import checked_uuid
from confkeep.observe.logs import get_logger
from confkeep.queue import events
from confkeep.queue.events import Event
from confkeep.settings import Settings
from confkeep.wording import count_text
from worker.broker import received
from worker.engine.hold import hold_tenant
from worker.engine.untold import Untold
from worker.queue import dead_letters, erase
from worker.queue.inbox import Inbox
from worker.store.repository.tenant_repository import (
    open_repository,
    repository_path,
    require_store,
)
from worker.store.rewriting import forget
from worker.store.upkeep import audit

log = get_logger("forget")

_POLL_S: Final = 0.2
#: Most entries that an inbox may hold.
_MOST: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed."""

    #: The device's commits; None if a tenant's whole repository went.
    commits: int | None
    dead_letters: int
    #: Result records, rows of the last commits and staged bytes in Redis, and files on the volume.
    records: int
    #: Bytes that a client staged for the tenant and that no message refers to. Nobody can tell whether
    #: they are the device's; the tidying deletes them after a day.
    handed_over: int = 0


def forget_device(
    settings: Settings, tenant_id: str, device_id: str, *, wait_s: float = 0.0
) -> Erased:
    """Erase a device: from git with a proof, its dead letters, its bytes and results in Redis.

    Args:
        wait_s: how long to wait for its backups to be committed.

    Raises:
        StoreMissing: the store is not there, so nobody knows what is in it; nothing was erased.
        BackupsWaiting: some wait still, in the inbox or as messages to `backups.receive`; nothing
            was erased.
        TenantLocked, BrokerUnavailable, StagingUnavailable: call again.
        NotInStore: the tenant has no repository.
        StoreError: as `worker.store.rewriting.forget.forget_device`.
    """
    tenant, device = checked_uuid("tenant_id", tenant_id), checked_uuid("device_id", device_id)
    client = get_client(settings)
    inbox = Inbox(client, settings, tenant)
    path = repository_path(settings.git_store_path, tenant)

    def what_waits() -> str | None:
        # In the order in which a backup goes on, so that none is missed.
        messages = _messages(inbox, device)
        if any(waiting.entry.device_id == device for waiting in inbox.peek(_MOST)):
            return f"the inbox of tenant {tenant} holds backups of device {device}"
        if erase.has_arrivals(inbox):
            return f"an earlier release's producers left backups of tenant {tenant}: see `confkeep status`"
        return messages

    with _hold_quiet(settings, tenant, what_waits, wait_s):
        _note(settings, "device.forget", tenant, device, state="begun")
        open_repository(path)  # an event of nothing is not to be expected
        untold = Untold(settings, tenant)
        was_begun = untold.expect(_event(tenant, device))
        gone = forget.forget_device(path, device, now_s=int(time.time()))
        letters = [
            letter
            for letter in dead_letters.list_dead_letters(client)
            if letter.tenant_id == tenant
            and (
                letter.device_id == device or (letter.device_id is None and device in letter.entry)
            )
        ]
        ids = {*gone.backup_ids, *(letter.backup_id for letter in letters)}
        # Nobody knows whether these are the device's: what waits under such an id stays.
        unsigned = {letter.unsigned_id for letter in letters if letter.unsigned_id is not None}
        ids |= unsigned - {w.entry.backup_id for w in inbox.peek(_MOST)}
        records = erase.clear(inbox, letters, ids, device)
        handed_over = erase.unnamed_handoffs(inbox)
        if was_begun or gone.commits or letters or records:
            # Who was killed after the rewrite has taken the number along.
            commits = None if was_begun and not gone.commits else gone.commits
            untold.tell(events.FORGOTTEN, device, commits=commits)
        else:
            untold.drop(events.FORGOTTEN, device)
        erased = Erased(gone.commits, len(letters), records, handed_over)
        _note(settings, "device.forget", tenant, device, state="done", commits=erased.commits)
    return erased


def forget_tenant(settings: Settings, tenant_id: str, *, wait_s: float = 0.0) -> Erased:
    """Erase a tenant: its repository, and all that Redis and the staging hold of it.

    Args:
        wait_s: how long to wait for its backups to be committed.

    Raises:
        NotInStore: nothing of the tenant is there.
        InvalidId, QueueError, StoreError: as `forget_device`.
    """
    tenant = checked_uuid("tenant_id", tenant_id)
    client = get_client(settings)
    inbox = Inbox(client, settings, tenant)
    path = repository_path(settings.git_store_path, tenant)

    def what_waits() -> str | None:
        messages = _messages(inbox, None)
        if inbox.depth():
            return f"the inbox of tenant {tenant} is not empty"
        return messages

    with _hold_quiet(settings, tenant, what_waits, wait_s):
        _note(settings, "tenant.forget", tenant, None, state="begun")
        untold = Untold(settings, tenant)
        was_begun = untold.expect(_event(tenant, None))
        there = forget.forget_tenant(path)
        every = dead_letters.list_dead_letters(client)
        letters = [letter for letter in every if letter.tenant_id == tenant]
        ids = {letter.backup_id for letter in letters}
        records = erase.clear(inbox, letters, ids, None)
        records += erase.clear_tenant(inbox)
        is_something = was_begun or there or bool(letters or records)
        if is_something:
            untold.tell(events.FORGOTTEN, None)
        else:
            untold.drop(events.FORGOTTEN, None)
        _note(settings, "tenant.forget", tenant, None, state="done")
    if not is_something:
        raise NotInStore(
            f"nothing of tenant {tenant} is there",
            hint="`confkeep history` alone lists the tenants.",
        )
    return Erased(None, len(letters), records)


def _event(tenant_id: str, device_id: str | None) -> Event:
    """The event of an erasure, which names nothing but ids."""
    about = (tenant_id, device_id, time.time_ns())
    return events.new(events.FORGOTTEN, tenant_id, device_id, data={"commits": None}, about=about)


@contextlib.contextmanager
def _hold_quiet(
    settings: Settings, tenant_id: str, what_waits: Callable[[], str | None], wait_s: float
) -> Iterator[None]:
    """Hold the tenant once nothing waits; give up after about `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and what_waits() is not None:
        time.sleep(_POLL_S)
    with hold_tenant(settings, tenant_id):
        if (found := what_waits()) is not None:
            raise BackupsWaiting(found)
        # A volume that is not mounted holds backups still.
        require_store(settings.git_store_path)
        yield


def _messages(inbox: Inbox, device_id: str | None) -> str | None:
    """What waits to be accepted of a device, or of a tenant, as a sentence."""
    count = unreadable = 0
    for message in received.waiting(inbox.client):
        unreadable += message.tenant_id is None
        count += message.tenant_id == inbox.tenant_id and device_id in (None, message.device_id)
    if count:
        whose = f"tenant {inbox.tenant_id}" if device_id is None else f"device {device_id}"
        messages = count_text(count, "message")
        return f"the queue {keys.RECEIVE_QUEUE} holds {messages} for {whose} that no worker has accepted"
    if unreadable:
        messages = count_text(unreadable, "message")
        return f"the queue {keys.RECEIVE_QUEUE} holds {messages} that cannot be read, and may be for it"
    return None


def _note(
    settings: Settings, action: str, tenant_id: str, device_id: str | None, **more: object
) -> None:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    fields = {"tenant_id": tenant_id, "device_id": device_id, **more}
    audit.append(settings.git_store_path, at=at, action=action, **fields)
    # The audit's own name of it, `device.forget` or `tenant.forget`, is the field `what`.
    log.warning("noted an erasure in the audit log", action="erasure", what=action, **fields)
