"""Names devices and tenants: labels are committed in order with the backups."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from confkeep import enqueue
from confkeep.errors import InvalidBackup
from confkeep.models import NamingPayload
from confkeep.results import BackupResult


def name_device(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    name: str | None = None,
    *,
    address: str | None = None,
    model: str | None = None,
    group: str | None = None,
    backup_id: str | uuid.UUID | None = None,
) -> BackupResult:
    """Give a device labels. The naming is accepted and committed like a backup, but is no capture.

    Args:
        name, address, model, group: at most 253 characters each. None leaves one as it is; an empty
            text takes it away.
        backup_id: as for `enqueue_backup`.

    Returns:
        As `enqueue_backup`.

    Raises:
        as `enqueue_backup`; InvalidBackup too if no label is given.
    """
    return _send(
        tenant_id,
        device_id,
        {"name": name, "address": address, "model": model, "group": group},
        backup_id,
    )


def name_tenant(
    tenant_id: str | uuid.UUID, name: str, *, backup_id: str | uuid.UUID | None = None
) -> BackupResult:
    """Give a tenant a name. git keeps it as the name of a device with the tenant's own id; the
    repository's `description` shows it.

    Args:
        name: at most 253 characters; an empty text takes it away.
        backup_id: as for `enqueue_backup`.

    Returns:
        As `enqueue_backup`.

    Raises:
        as `enqueue_backup`.
    """
    return _send(tenant_id, tenant_id, {"name": name}, backup_id)


def naming_of(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    labels: Mapping[str, str | None],
    backup_id: str | uuid.UUID | None = None,
) -> NamingPayload:
    """A checked naming, ready to be submitted.

    Args:
        labels: `name`, `address`, `model` and `group`; None leaves one as it is.

    Raises:
        InvalidBackup: no label is given, or one breaks its limit.
    """
    said = {which: value for which, value in labels.items() if value is not None}
    if not said:
        raise InvalidBackup("name", "or another label must be given")
    values = {f"device_{which}": value for which, value in said.items()}
    if backup_id is not None:
        values["backup_id"] = str(backup_id)
    return NamingPayload.checked(
        tenant_id=tenant_id,
        device_id=device_id,
        message="labels: " + ", ".join(f"{which} {value}" for which, value in said.items()),
        **values,
    )


def _send(
    tenant_id: str | uuid.UUID,
    device_id: str | uuid.UUID,
    labels: Mapping[str, str | None],
    backup_id: str | uuid.UUID | None,
) -> BackupResult:
    naming = naming_of(tenant_id, device_id, labels, backup_id)
    enqueue.submit_all([[naming]])
    return BackupResult(naming.backup_id)
