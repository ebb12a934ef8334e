"""What producers import: hand over backups, wait for their receipts, and read what is kept.

    from confkeep import enqueue_backup

Importing this package opens no connection, reads no environment, configures no logging and connects no
signal. `confkeep.testing` is a stand-in for your own tests, without a server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confkeep.awaiting import receipt
    from confkeep.enqueue import enqueue_backup, enqueue_backups
    from confkeep.errors import (
        BackupIdConflict,
        BrokerUnavailable,
        ConfkeepError,
        InboxFull,
        InvalidBackup,
        NoReceipt,
        NotInStore,
        PoisonedBackup,
        StagingUnavailable,
        UnknownBackup,
    )
    from confkeep.following import Events, events
    from confkeep.models import (
        BackupFields,
        BackupPayload,
        Device,
        HistoryEntry,
        Receipt,
        ReceivedBackup,
        StagedReference,
    )
    from confkeep.naming import name_device, name_tenant
    from confkeep.queue.events import Event
    from confkeep.reading import devices, diff, directory, history, read_file, receipt_of
    from confkeep.results import BackupResult
    from confkeep.sign import signed_receive

__all__ = [
    "BackupFields",
    "BackupIdConflict",
    "BackupPayload",
    "BackupResult",
    "BrokerUnavailable",
    "ConfkeepError",
    "Device",
    "Event",
    "Events",
    "HistoryEntry",
    "InboxFull",
    "InvalidBackup",
    "NoReceipt",
    "NotInStore",
    "PoisonedBackup",
    "Receipt",
    "ReceivedBackup",
    "StagedReference",
    "StagingUnavailable",
    "UnknownBackup",
    "devices",
    "diff",
    "directory",
    "enqueue_backup",
    "enqueue_backups",
    "events",
    "history",
    "name_device",
    "name_tenant",
    "read_file",
    "receipt",
    "receipt_of",
    "signed_receive",
]

_MODULES = (
    "errors",
    "models",
    "enqueue",
    "awaiting",
    "reading",
    "results",
    "sign",
    "naming",
    "following",
)


def __getattr__(name: str) -> Any:
    """A public name, found when it is first asked for: `confkeep --help` waits for no Celery."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"confkeep.{module}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module 'confkeep' has no attribute {name!r}")
