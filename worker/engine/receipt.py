"""What became of a backup: Redis knows it for a while, git for ever."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from confkeep.broker.connections import get_client
from confkeep.errors import (
    BrokerUnavailable,
    ConfkeepError,
    EntryMissing,
    InvalidId,
    NotInStore,
    OddValue,
    RemovedByRetention,
    StoreError,
    StoreMissing,
    UnknownBackup,
)
from confkeep.models import Receipt
from confkeep.queue import receipts
from confkeep.routeros.suspect import warning_of
from confkeep.settings import Settings
from worker.engine.versions import device_of
from worker.process.waits import advice
from worker.queue import backoff, dead_letters, inboxes
from worker.store.history.index import open_index
from worker.store.repository.backup import Committed
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import open_repository, repository_path, tenants_of
from worker.store.writing.commit import describe_commit

_STATES: Final = frozenset({"PENDING", "RETRY", "FAILURE", "SUCCESS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a backup."""

    #: As Celery names it: PENDING, RETRY, SUCCESS or FAILURE.
    state: str
    #: `redis` or `git`.
    source: str
    #: The fields of `confkeep.Receipt`; None if there is none.
    receipt: Mapping[str, Any] | None = None
    #: Why it waits or failed.
    error: ConfkeepError | None = None
    #: Whose it is; None if that is not known any more.
    tenant_id: str | None = None


def find_receipt(
    settings: Settings, backup_id: str, tenant_id: str | None, note: Callable[[str], None]
) -> Answer:
    """Ask Redis first and then the repositories; one of the two may be away.

    Args:
        tenant_id: look in this tenant's repository only; None: in all.
        note: gets what a person should know of the way to the answer.

    Raises:
        UnknownBackup: neither knows it.
        BrokerUnavailable: Redis did not answer, and git does not know it.
        OddValue: its record is none of ours, and git does not know it.
        RemovedByRetention: it was in git.
        StoreError: it was not found in what could be read, and something could not.
    """
    away: BrokerUnavailable | None = None
    answer = None
    try:
        answer = in_redis(get_client(settings), backup_id)
    except BrokerUnavailable as error:
        away = error
    if answer is not None and (
        tenant_id is None or answer.receipt is None or answer.receipt["tenant_id"] == tenant_id
    ):
        return answer
    receipt = in_git(
        settings.git_store_path, backup_id, None if tenant_id is None else [tenant_id], note
    )
    if receipt is not None:
        why = (
            f"{away}; " if isinstance(away, OddValue) else "Redis did not answer; " if away else ""
        )
        note(f"{why}this is from git")
        return Answer("SUCCESS", "git", receipt)
    if away is not None:
        # It may well wait there.
        raise away
    raise UnknownBackup("BACKUP_ID", f"{backup_id} is not known to Redis and not in git")


def in_redis(client: redis.Redis, backup_id: str) -> Answer | None:
    """What Redis knows of a backup; None if nothing.

    Raises:
        BrokerUnavailable: it did not answer.
        OddValue: its record is none of ours.
    """
    record = receipts.read(client, backup_id)
    letter = None
    if record is None or record.get("status") == "FAILURE":
        with suppress(InvalidId):
            letter = dead_letters.get(client, backup_id)
    tenant_id = None if letter is None else letter.tenant_id
    if record is None:
        if letter is None:
            return None
        # Dead letters are kept for longer than records.
        error = {"exc_type": letter.kind, "exc_message": [letter.reason]}
        return Answer("FAILURE", "redis", error=receipts.error_of(error), tenant_id=tenant_id)
    state, result = record.get("status"), record.get("result")
    if state == "SUCCESS":
        try:
            receipt = Receipt.of(result).model_dump(mode="json")
        except ValueError as error:
            raise receipts.garbled(backup_id) from error
        return Answer(state, "redis", receipt=receipt, tenant_id=receipt["tenant_id"])
    if state not in _STATES:
        raise receipts.garbled(backup_id)
    if state != "FAILURE" and isinstance(record.get("tenant"), str):
        tenant_id = record["tenant"]
    if state != "FAILURE" and not inboxes.has_entry(client, backup_id, record):
        # It may have been settled between the two looks.
        if receipts.read(client, backup_id) == record:
            lost = EntryMissing(dead_letters.LOST)
            return Answer("FAILURE", "redis", error=lost, tenant_id=tenant_id)
        return in_redis(client, backup_id)
    why = receipts.error_of(result) if isinstance(result, dict) else None
    if state == "PENDING" and tenant_id is not None:
        # What came while its tenant waits is told by no turn yet.
        wait = backoff.get_many(client, [tenant_id]).get(tenant_id)
        if wait is not None:
            kind, _, text = wait.reason.partition(": ")
            why = receipts.error_of({"exc_type": kind, "exc_message": [text]})
            state = "RETRY"
    return Answer(state, "redis", error=why, tenant_id=tenant_id)


def next_step(answer: Answer, settings: Settings) -> str | None:
    """What to do about the fault that a backup waits for; None if it waits for none."""
    if answer.error is None or answer.state != "RETRY":
        return None
    return advice(f"{type(answer.error).__name__}: {answer.error}", settings, answer.tenant_id)


def in_git(
    store: Path, backup_id: str, tenants: Collection[str] | None, note: Callable[[str], None]
) -> dict[str, Any] | None:
    """The receipt, made again from the commit; None if no repository has the backup.

    Args:
        tenants: look in their repositories only; None: in all.

    Raises:
        RemovedByRetention: it was in git.
        StoreError: it was not found in what could be read, and something could not.
    """
    unread: StoreError | None = None
    for tenant in tenants_of(store) if tenants is None else tenants:
        try:
            receipt = receipt_in(repository_path(store, tenant), tenant, backup_id)
        except RemovedByRetention:
            raise
        except (StoreMissing, NotInStore):
            continue
        except StoreError as error:
            note(f"tenant {tenant} cannot be read: {error}")
            unread = error
            continue
        if receipt is not None:
            return receipt
    if unread is not None:
        raise unread
    return None


def receipt_in(path: Path, tenant_id: str, backup_id: str) -> dict[str, Any] | None:
    """The receipt that one repository tells; None if it never had the backup.

    Raises:
        RemovedByRetention: it had it.
        StoreError: it cannot be read.
    """
    repository = open_repository(path)
    with open_index(repository) as index:
        sha = index.find_backup_ids({backup_id}, repository.tip()).get(backup_id)
    if sha is None:
        ids = repository.ids.get(path, repository.git)
        gone = {} if ids is None else ids.removed_backups({backup_id})
        if backup_id in gone:
            find_commit(repository, gone[backup_id].sha)
        return None
    commit = find_commit(repository, sha)
    with open_index(repository) as index:
        made = describe_commit(repository, index, commit, device_of(commit) or "")
    return fields_of(tenant_id, made)


def fields_of(tenant_id: str, made: Committed) -> dict[str, Any]:
    """The fields of a commit's `confkeep.Receipt`."""
    detail = made.detail
    return {
        "tenant_id": tenant_id,
        "backup_id": made.backup_id,
        "device_id": made.device_id,
        "sha": made.sha,
        "lines_added": detail.lines_added,
        "lines_removed": detail.lines_removed,
        "unchanged": made.unchanged,
        "export_changed": detail.export_changed,
        "committed_at": made.committed_at,
        "suspect": detail.suspect,
        "device_name": made.device_name,
        "warnings": [] if detail.suspect is None else [warning_of(detail.suspect)],
    }
