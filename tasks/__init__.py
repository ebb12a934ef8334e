"""What producers use: enqueue backups and wait for their receipts; importing it loads no git."""

from tasks.enqueue import enqueue_backup, enqueue_backups
from tasks.models import BackupPayload, HistoryEntry, Receipt, ReceivedBackup, StagedReference
from worker.errors import (
    BackupIdConflict,
    BrokerUnavailable,
    ConfkeepError,
    InvalidBackup,
    PoisonedBackup,
)

__all__ = [
    "BackupIdConflict",
    "BackupPayload",
    "BrokerUnavailable",
    "ConfkeepError",
    "HistoryEntry",
    "InvalidBackup",
    "PoisonedBackup",
    "Receipt",
    "ReceivedBackup",
    "StagedReference",
    "enqueue_backup",
    "enqueue_backups",
]
