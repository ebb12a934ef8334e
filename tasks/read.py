"""Celery tasks that answer questions where the repository is, routed like commits."""

from __future__ import annotations

import base64
import contextlib
from functools import partial
from typing import Any, Final

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, InvalidInput
from confkeep.ids import checked_uuid
from confkeep.models import Device, HistoryEntry
from confkeep.queue import receipts
from confkeep.settings import get_settings
from worker.app import Task, app
from worker.engine.commit_events import LocalGit
from worker.engine.diff import hunks
from worker.engine.directory import Device as Listed
from worker.engine.directory import directory_of
from worker.engine.versions import versions_of
from worker.reading import questions
from worker.store.repository import reader
from worker.store.repository.backup import Version
from worker.store.repository.tenant_repository import (
    TenantRepository,
    open_repository,
    repository_path,
)

#: Most events in an answer.
_MOST_EVENTS: Final = 1_000
#: An answer can be fetched for so many seconds. It is a backup's content and does not say whose, so it must
#: not fill Redis as long as receipts do, nor outlive an erasure by more than this.
ANSWER_LIFE_S: Final = 600


class ReadTask(Task):
    """Lets each answer go soon."""

    def after_return(
        self,
        status: str,  # noqa: ARG002 - Celery's signature
        retval: Any,  # noqa: ARG002
        task_id: str,
        args: Any,  # noqa: ARG002
        kwargs: Any,  # noqa: ARG002
        einfo: Any,  # noqa: ARG002
    ) -> None:
        """Shorten the life of the answer, which Celery has stored by now."""
        # A broker that went away just now keeps it as long as any result: that is no failure.
        with contextlib.suppress(BrokerUnavailable):
            receipts.shorten_answer(get_client(), task_id, ANSWER_LIFE_S)


#: A result is a backup's content: logs and monitors repeat none of its characters.
_task: Final = partial(app.task, base=ReadTask, ignore_result=False, resultrepr_maxsize=0)


@_task(name="backups.read_file")  # type: ignore[untyped-decorator]
def read_file(tenant_id: str, commit_sha: str, device_id: str, filename: str) -> str:
    """A file of a device as it was in a commit, as base64."""
    data = reader.read_file(_open(tenant_id), commit_sha, device_id, filename)
    return base64.b64encode(data).decode("ascii")


@_task(name="backups.history")  # type: ignore[untyped-decorator]
def history(tenant_id: str, device_id: str, limit: int = 100) -> list[dict[str, Any]]:
    """The newest `limit` versions of a device, newest first."""
    device_id = checked_uuid("device_id", device_id)
    versions = versions_of(_open(tenant_id), device_id, limit, details=True)
    return [_entry_of(version).model_dump(mode="json") for version in versions]


@_task(name="backups.devices")  # type: ignore[untyped-decorator]
def devices(tenant_id: str) -> list[str]:
    """The ids of a tenant's devices in its newest commit, sorted."""
    return reader.devices_of(_open(tenant_id))


@_task(name="backups.directory")  # type: ignore[untyped-decorator]
def directory(tenant_id: str) -> list[dict[str, Any]]:
    """A tenant's directory: its devices with their labels, the last changed one first."""
    return [_device_of(device).model_dump(mode="json") for device in directory_of(_open(tenant_id))]


def _device_of(device: Listed) -> Device:
    labels = device.called.labels
    return Device(
        device_id=device.called.id,
        name=device.called.name,
        own_name=device.called.own_name,
        address=labels.address,
        model=labels.model,
        group=labels.group,
        versions=device.versions,
        sha=device.last.sha,
        changed_at=device.last.committed_at,
        last_backup_at=device.seen_at,
    )


def _entry_of(version: Version) -> HistoryEntry:
    return HistoryEntry(
        sha=version.sha,
        message=version.raw_message.decode("utf-8", "replace"),
        committed_at=version.committed_at,
        backup_id=version.backup_id,
        suspect=None if version.detail is None else version.detail.suspect,
    )


@_task(name="backups.diff")  # type: ignore[untyped-decorator]
def diff(tenant_id: str, device_id: str, old_sha: str, new_sha: str) -> str:
    """The unified difference of a device's exports in two commits."""
    repository = _open(tenant_id)
    old, new = (
        reader.read_pair(repository, reader.find_commit(repository, sha), device_id).export or b""
        for sha in (old_sha, new_sha)
    )
    body = hunks(old, new)
    text = b"--- %b\n+++ %b\n%b" % (old_sha.encode(), new_sha.encode(), body) if body else b""
    return text.decode("utf-8", "replace").removesuffix("\n")


@_task(name="backups.tenants")  # type: ignore[untyped-decorator]
def tenants(shard: int) -> list[str]:
    """The ids of a shard's tenants that have a repository."""
    _check_allowed()
    settings = get_settings()
    found = LocalGit(settings.git_store_path).tenants()
    return [one for one in found if keys.shard_of(one, settings.shards) == shard]


@_task(name="backups.commits_after")  # type: ignore[untyped-decorator]
def commits_after(
    tenant_id: str, seen: str | None, since_s: int, upto: str | None, limit: int
) -> dict[str, Any] | None:
    """A tenant's commits after one as events, for `confkeep.following.AskedGit`."""
    _check_allowed()
    git = LocalGit(get_settings().git_store_path)
    commits = git.after(tenant_id, seen, since_s, upto, min(limit, _MOST_EVENTS))
    if commits is None:
        return None
    found = [
        (sha, at_s, None if event is None else event.model_dump(mode="json"))
        for sha, at_s, event in commits.found
    ]
    return {"found": found, "done": commits.done}


@_task(name="backups.answer")  # type: ignore[untyped-decorator]
def answer(tenant_id: str, what: str, arguments: dict[str, Any]) -> Any:
    """A question of `worker.reading.asking`, about one tenant."""
    _check_allowed()
    given = {**arguments, "tenant_id": checked_uuid("tenant_id", tenant_id)}
    return questions.answer(get_settings().git_store_path, what, given)


def _open(tenant_id: str) -> TenantRepository:
    _check_allowed()
    return open_repository(repository_path(get_settings().git_store_path, tenant_id))


def _check_allowed() -> None:
    if not get_settings().read_tasks:
        # Who may enqueue may send any task: the broker cannot tell them apart.
        raise InvalidInput("CONFKEEP_READ_TASKS", "is 0: this worker answers no questions")
