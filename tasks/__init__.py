"""What producers use: enqueue backups and wait for their receipts; importing it loads no git."""

from confkeep.enqueue import enqueue_backup, enqueue_backups
from confkeep.errors import (
    BackupIdConflict,
    BrokerUnavailable,
    ConfkeepError,
    InboxFull,
    InvalidBackup,
    PoisonedBackup,
    StagingUnavailable,
)
from confkeep.models import BackupPayload, HistoryEntry, Receipt, ReceivedBackup, StagedReference
from confkeep.results import BackupResult
from confkeep.sign import signed_receive

__all__ = [
    "BackupIdConflict",
    "BackupPayload",
    "BackupResult",
    "BrokerUnavailable",
    "ConfkeepError",
    "HistoryEntry",
    "InboxFull",
    "InvalidBackup",
    "PoisonedBackup",
    "Receipt",
    "ReceivedBackup",
    "StagedReference",
    "StagingUnavailable",
    "enqueue_backup",
    "enqueue_backups",
    "signed_receive",
]
