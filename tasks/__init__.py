"""What producers use: enqueue backups and wait for their receipts; importing it loads no git."""

from tasks.enqueue import enqueue_backup, enqueue_backups
from tasks.models import BackupPayload, HistoryEntry, Receipt, ReceivedBackup, StagedReference
from tasks.results import BackupResult
from tasks.sign import signed_receive
from worker.errors import (
    BackupIdConflict,
    BrokerUnavailable,
    ConfkeepError,
    InboxFull,
    InvalidBackup,
    PoisonedBackup,
    StagingUnavailable,
)

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
