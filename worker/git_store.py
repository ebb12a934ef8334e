"""The five functions of the module that this store replaces; a thin front without logic of its own."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TypedDict

import pygit2

from confkeep.errors import InvalidInput, NotInStore, RepositoryBusy
from confkeep.settings import get_settings
from worker.engine.hold import hold_tenant
from worker.engine.versions import versions_of
from worker.store.repository import line_delta, reader
from worker.store.repository.backup import Backup, Signature, checked_uuid, encode_text
from worker.store.repository.tenant_repository import (
    TenantRepository,
    create_repository,
    open_repository,
    repository_path,
)
from worker.store.writing.commit import open_for_writing

__all__ = [
    "commit_backup",
    "compute_line_delta",
    "get_or_create_repo",
    "list_device_commits",
    "read_file",
]

#: Seconds to wait for another process that commits for the tenant.
_LOCK_WAIT_S = 60.0

#: Seconds to try again beside a program that commits without the tenant lock, such as a replica that
#: still runs the old module, and seconds between two tries.
_BUSY_WAIT_S = 30.0
_BUSY_POLL_S = 0.02


class DeviceCommit(TypedDict):
    """One commit that changed a device."""

    sha: str
    message: str
    #: The committer's date in seconds since 1970.
    timestamp: int


def get_or_create_repo(tenant_id: str) -> pygit2.Repository:
    """The tenant's bare repository, created with its parents when there is none.

    Raises:
        InvalidId: not a UUID.
        StoreUnavailable: the file system refused.
        RepositoryDamaged: git cannot open what is there.
    """
    return create_repository(_path(tenant_id), Signature(*get_settings().author)).git


def commit_backup(
    tenant_id: str, device_id: str, export_text: str, binary_backup: bytes | None, message: str
) -> str:
    """Commit one backup under the tenant lock of all processes; durable when this returns.

    Returns:
        The 40 hexadecimal digits of the commit's id.

    Raises:
        InvalidInput: an id is no UUID, or a text cannot be encoded.
        TenantLocked: another process committed for the tenant for more than a minute.
        BrokerUnavailable: Redis, which holds the lock, did not answer.
        RepositoryBusy: a program that does not take that lock was in the way for half a minute.
        StoreError: the repository could not be written; nothing was committed.
    """
    try:
        backup = Backup(
            backup_id=str(uuid.uuid4()),
            device_id=checked_uuid("device_id", device_id),
            export=encode_text(export_text),
            binary=binary_backup,
            message=message,
        )
        if b"\0" in encode_text(message):
            raise InvalidInput("message", "must not contain NUL")
    except UnicodeEncodeError as error:
        raise InvalidInput("export_text or message", "holds a lone surrogate") from error
    tenant = checked_uuid("tenant_id", tenant_id)
    with hold_tenant(get_settings(), tenant, wait_s=_LOCK_WAIT_S):
        deadline = time.monotonic() + _BUSY_WAIT_S
        while True:
            try:
                return _commit(tenant, backup)
            except RepositoryBusy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_BUSY_POLL_S)


def _commit(tenant_id: str, backup: Backup) -> str:
    # Opened at each try: that removes the lock file of a writer that died.
    with open_for_writing(_path(tenant_id), Signature(*get_settings().author)) as writer:
        return writer.commit_backups([backup])[0].sha


def read_file(tenant_id: str, commit_sha: str, device_id: str, filename: str) -> bytes:
    """A file of a device as it was in a commit, byte for byte. Creates nothing.

    Args:
        commit_sha: full or abbreviated, at least 4 hexadecimal digits.
        filename: `export.rsc` or `backup.bin`.

    Raises:
        KeyError: (as `NotInStore` or `InvalidId`) the commit, device or file is not there.
        StoreMissing: the store is not there.
    """
    return reader.read_file(_open(tenant_id), commit_sha, device_id, filename)


def list_device_commits(tenant_id: str, device_id: str) -> list[DeviceCommit]:
    """The commits that changed a device's subtree, newest first; `[]` when it is unknown.

    Messages come without the white space around them.

    Raises:
        InvalidId: an id is no UUID.
        StoreMissing: the store is not there, which says nothing of the device.
    """
    device = checked_uuid("device_id", device_id)
    try:
        repository = _open(tenant_id)
    except NotInStore:
        return []
    return [
        DeviceCommit(
            sha=version.sha,
            message=version.message.strip(),
            timestamp=int(version.committed_at.timestamp()),
        )
        for version in versions_of(repository, device)
    ]


def compute_line_delta(old_text: str | None, new_text: str | None) -> tuple[int, int]:
    """Lines added and removed from `old_text` to `new_text`, as git counts them; None: no text.

    Returns:
        `(added, removed)`.
    """
    return line_delta.compute_line_delta(old_text or "", new_text or "")


def _path(tenant_id: str) -> Path:
    return repository_path(get_settings().git_store_path, tenant_id)


def _open(tenant_id: str) -> TenantRepository:
    return open_repository(_path(tenant_id))
