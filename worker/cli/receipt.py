"""`confkeep receipt`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from confkeep.broker.connections import get_client
from confkeep.errors import (
    BrokerUnavailable,
    ConfkeepError,
    EntryMissing,
    InvalidId,
    NoReceipt,
    NotInStore,
    OddValue,
    PoisonedBackup,
    RemovedByRetention,
    StoreError,
    StoreMissing,
    UnknownBackup,
)
from confkeep.ids import checked_uuid
from confkeep.models import Receipt
from confkeep.queue import arrivals, receipts
from confkeep.routeros.suspect import warning_of
from confkeep.settings import Settings, get_settings
from worker.cli import running
from worker.cli.lookup import find_tenant
from worker.cli.terminal import Terminal, date_text, pass_terminal, printable
from worker.cli.versions import changed_devices
from worker.process.waits import advice
from worker.queue import dead_letters, inbox
from worker.store.backup import DEVICE_ID_HEADER
from worker.store.commit import describe_commit
from worker.store.index import HistoryIndex
from worker.store.reader import find_commit, id_in_header
from worker.store.repository import open_repository, repository_path, tenants_of

#: What the states of a record mean to a person.
_MEANING: Final = {
    "PENDING": "waits in its tenant's inbox",
    "RETRY": "waits: its tenant's last commit failed and is tried again",
    "FAILURE": "cannot be committed",
    "SUCCESS": "is in git",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a backup."""

    #: As Celery names it: PENDING, RETRY, SUCCESS or FAILURE.
    state: str
    #: `redis` or `git`.
    source: str
    #: The fields of `tasks.Receipt`; None: there is none.
    receipt: Mapping[str, Any] | None = None
    #: Why it waits or failed.
    error: ConfkeepError | None = None


@click.command("receipt")
@click.argument("backup_id")
@click.option("--tenant", help="Look in this tenant's repository only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, backup_id: str, tenant: str | None, as_json: bool) -> None:
    """Tell what became of a backup.

    Asks Redis first, which knows for 8 days (CONFKEEP_RECEIPT_TTL_S), and then the repositories,
    which know for ever. Works without a server when the backup is in git.

    \b
    Ends with
      0   the backup is in git
      2   nobody knows the id
      16  it was accepted and waits
      20, 21, 22  it became a dead letter
      24  it waits without an entry, so nobody commits it: hand it over again

    \b
    With --json:
      {"backup_id", "state": "PENDING", "RETRY", "SUCCESS" or "FAILURE", "source": "redis" or "git",
       "reason": why it waits or failed, or null,
       "next_step": what to do about a commit that failed, or null,
       "receipt": null or {"backup_id", "tenant_id", "device_id", "sha", "lines_added",
                           "lines_removed", "unchanged", "export_changed", "committed_at",
                           "suspect", "warnings"}}
    """
    running.adopt(terminal)
    settings = get_settings()
    backup_id = checked_uuid("BACKUP_ID", backup_id)
    tenant_id = None if tenant is None else find_tenant(settings.git_store_path, tenant)
    answer = _ask(terminal, settings, backup_id, tenant_id)
    if as_json:
        terminal.json(
            {
                "backup_id": backup_id,
                "state": answer.state,
                "source": answer.source,
                "reason": None if answer.error is None else str(answer.error),
                "next_step": _next_step(answer, settings, tenant_id),
                "receipt": answer.receipt,
            }
        )
    else:
        _print(terminal, backup_id, answer, _next_step(answer, settings, tenant_id))
    if answer.state == "FAILURE":
        raise answer.error or PoisonedBackup("no reason is known")
    if answer.receipt is None:
        raise NoReceipt(f"backup {backup_id} {_MEANING[answer.state]}")


def _ask(terminal: Terminal, settings: Settings, backup_id: str, tenant_id: str | None) -> Answer:
    away: BrokerUnavailable | None = None
    answer = None
    try:
        answer = _in_redis(settings, backup_id)
    except BrokerUnavailable as error:
        away = error
    if answer is not None and (
        tenant_id is None or answer.receipt is None or answer.receipt["tenant_id"] == tenant_id
    ):
        return answer
    receipt = _in_git(terminal, settings.git_store_path, backup_id, tenant_id)
    if receipt is not None:
        why = (
            f"{away}; " if isinstance(away, OddValue) else "Redis did not answer; " if away else ""
        )
        terminal.note(f"{printable(why)}this is from git")
        return Answer("SUCCESS", "git", receipt)
    if away is not None:
        # It may well wait there.
        raise away
    raise UnknownBackup("BACKUP_ID", f"{backup_id} is not known to Redis and not in git")


def _in_redis(settings: Settings, backup_id: str) -> Answer | None:
    client = get_client(settings)
    record = receipts.read(client, backup_id)
    if record is None:
        try:
            letter = dead_letters.get(client, backup_id)
        except InvalidId:
            # What was handed over gets its record when a worker admits it.
            return Answer("PENDING", "redis") if arrivals.holds(client, backup_id) else None
        # Dead letters are kept for longer than records.
        error = {"exc_type": letter.kind, "exc_message": [letter.reason]}
        return Answer("FAILURE", "redis", error=receipts.error_of(error))
    state, result = record.get("status"), record.get("result")
    if state == "SUCCESS":
        try:
            return Answer(state, "redis", receipt=Receipt.of(result).model_dump(mode="json"))
        except ValueError as error:
            raise receipts.garbled(backup_id) from error
    if state not in _MEANING:
        raise receipts.garbled(backup_id)
    if state != "FAILURE" and not inbox.has_entry(client, backup_id, record):
        # It may have been settled between the two looks.
        if receipts.read(client, backup_id) == record:
            return Answer("FAILURE", "redis", error=EntryMissing(dead_letters.LOST))
        return _in_redis(settings, backup_id)
    return Answer(
        state, "redis", error=receipts.error_of(result) if isinstance(result, dict) else None
    )


def _in_git(
    terminal: Terminal, store: Path, backup_id: str, tenant_id: str | None
) -> dict[str, Any] | None:
    """The receipt, made again from the commit.

    Raises:
        RemovedByRetention: it was in git.
        StoreError: it was not found in what could be read, and something could not.
    """
    unread: StoreError | None = None
    for tenant in tenants_of(store) if tenant_id is None else [tenant_id]:
        try:
            receipt = _in_repository(repository_path(store, tenant), tenant, backup_id)
        except RemovedByRetention:
            raise
        except (StoreMissing, NotInStore):
            continue
        except StoreError as error:
            terminal.note(f"tenant {tenant} cannot be read: {printable(str(error))}")
            unread = error
            continue
        if receipt is not None:
            return receipt
    if unread is not None:
        raise unread
    return None


def _in_repository(path: Path, tenant_id: str, backup_id: str) -> dict[str, Any] | None:
    repository = open_repository(path)
    with HistoryIndex(repository) as index:
        sha = index.find_backup_ids({backup_id}, repository.tip()).get(backup_id)
    if sha is None:
        ids = repository.ids.get(path, repository.git)
        gone = {} if ids is None else ids.removed_backups({backup_id})
        if backup_id in gone:
            find_commit(repository, gone[backup_id].sha)
        return None
    commit = find_commit(repository, sha)
    device_id = id_in_header(commit.read_raw(), DEVICE_ID_HEADER)
    if device_id is None:
        # Written by something that names the backup only.
        device_id = min(changed_devices(commit), default="")
    committed = asdict(describe_commit(repository, commit, device_id))
    del committed["replayed"]
    reason = committed["suspect"]
    return {
        "tenant_id": tenant_id,
        **committed,
        "warnings": [] if reason is None else [warning_of(reason)],
    }


def _next_step(answer: Answer, settings: Settings, tenant_id: str | None) -> str | None:
    if answer.error is None or answer.state != "RETRY":
        return None
    return advice(f"{type(answer.error).__name__}: {answer.error}", settings, tenant_id)


def _print(terminal: Terminal, backup_id: str, answer: Answer, next_step: str | None) -> None:
    style = {"SUCCESS": "green", "FAILURE": "red"}.get(answer.state, "yellow")
    terminal.line(f"{backup_id} {_MEANING[answer.state]}", style=style)
    if answer.error is not None and answer.state == "RETRY":
        terminal.line(f"  reason     {printable(str(answer.error))}")
        terminal.line(f"  next step  {printable(next_step or '')}")
    receipt = answer.receipt
    if receipt is None:
        return
    changes = "both files as before"
    if not receipt["unchanged"]:
        kind = "the configuration changed" if receipt["export_changed"] else "same configuration"
        changes = f"+{receipt['lines_added']} -{receipt['lines_removed']} lines, {kind}"
    committed_at = receipt["committed_at"]
    if isinstance(committed_at, str):
        committed_at = dt.datetime.fromisoformat(committed_at)
    for name, value in (
        ("commit", receipt["sha"]),
        ("tenant", receipt["tenant_id"]),
        ("device", receipt["device_id"]),
        ("committed", f"{date_text(committed_at)} UTC"),
        ("changes", changes),
    ):
        terminal.line(f"  {name:<10} {printable(str(value))}")
    for warning in receipt["warnings"]:
        terminal.note(f"warning: {printable(warning)}")
