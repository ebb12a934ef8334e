"""The one tree of errors that confkeep raises, with hints and exit codes.

    ConfkeepError
    ├── InvalidInput      what the caller gave is wrong; the message names field and limit
    │                     InvalidBackup, BackupIdConflict, MessageRefused, InvalidSettings, InvalidId,
    │                     UnknownBackup, TooLarge
    ├── AccessDenied      a token is missing, unknown, expired or revoked, or does not allow it
    │                     NotAllowed, TooManyRequests
    ├── QueueError        Redis, the inbox or the lock
    │                     BrokerUnavailable, NotPermitted, OddValue, TooFewReplicas, BrokerVolatile,
    │                     InboxFull, TenantLocked, StagingUnavailable, BackupsWaiting, NoReceipt
    ├── PoisonedBackup    this backup can never be committed; it becomes a dead letter
    │                     StagedBytesMissing, StagedBytesDamaged, EntryMissing, NotSigned
    ├── Unhealthy         a health probe failed
    │                     NotAlive, NotReady
    ├── ExtraMissing      an optional library is not installed
    ├── NotDelivered      a webhook or a digest did not reach its receiver
    └── StoreError        a tenant's git repository
                          StoreMissing, StoreNotShared, NotInStore, RemovedByRetention, UndoImpossible,
                          ErasureIncomplete, RepositoryBusy, RepositoryDamaged, SideFileDamaged,
                          RestoreFailed, StoreUnavailable, NotOwner, GitUnavailable, MaintenanceFailed

`args` are JSON values from which Celery rebuilds the error in another process.
No message holds a payload, a password or a secret.
"""

from __future__ import annotations

from typing import ClassVar


class ConfkeepError(Exception):
    """Any error that confkeep raises on purpose.

    Args:
        hint: what the reader can do in this case; None: what the class says. Celery rebuilds an error from
            its `args` alone; workers store the hint beside them for those who ask.
    """

    #: What the reader can do about it.
    hint: str = "Run the command again with --debug and report what it prints."
    #: Whether repeating the same call may succeed later.
    retryable: ClassVar[bool] = False
    #: The exit status of the command line.
    exit_code: ClassVar[int] = 1

    def __init__(self, *args: object, hint: str | None = None) -> None:
        super().__init__(*args)
        if hint is not None:
            self.hint = hint


class InvalidInput(ConfkeepError, ValueError):
    """The caller's input is wrong.

    Args:
        field: name of the field, argument or variable.
        problem: what is wrong, and the limit; never the value.
        hint: as of any error.
    """

    hint = "Correct the field, argument or option that is named; the same input is refused again."
    exit_code = 2

    def __init__(self, field: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(field, problem, hint=hint)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class InvalidBackup(InvalidInput):
    """A backup that enqueue refuses. Nothing of it was kept."""


class BackupIdConflict(InvalidBackup):
    """The backup_id was accepted before for another device or other bytes."""

    hint = "Use a new backup_id for each capture; repeat an id only with the identical backup."


class MessageRefused(InvalidInput):
    """Workers refuse this Celery message: they set it aside and did nothing of it."""

    hint = (
        "Send it as docs/integrate.md shows, without callbacks, compression and time limits; "
        "`confkeep refused list` shows what was set aside."
    )


class InvalidSettings(InvalidInput):
    """An environment variable is missing or wrong."""

    hint = "Correct the variable; docs/settings.md lists all of them with their defaults."


class InvalidId(InvalidInput, KeyError):
    """Not an id, or a prefix that matches none or several.

    A `KeyError` for callers of `read_file`.
    """

    hint = (
        "`confkeep history` alone lists the tenants; `confkeep devices TENANT` lists its devices."
    )


class UnknownBackup(InvalidId):
    """No backup of that id waits, has a receipt, is a dead letter or is in git."""

    hint = "Check the id: `confkeep history TENANT DEVICE --json` lists those that are in git."


class TooLarge(InvalidInput):
    """What was sent is larger than the limit. Nothing of it was kept."""

    hint = "docs/http.md lists the limits."


class AccessDenied(ConfkeepError):
    """A token is missing, unknown, expired or revoked."""

    hint = (
        "Send a token, as `Authorization: Bearer TOKEN`; `confkeep token create` makes one and prints it "
        "once, `confkeep token list` says which are valid."
    )
    exit_code = 60


class NotAllowed(AccessDenied):
    """The token does not allow this."""

    hint = "Use a token that may do it: `confkeep token create NAME --tenant TENANT --may ...`."
    exit_code = 61


class TooManyRequests(AccessDenied):
    """The token's bound of requests or bytes in a minute is reached. Nothing was done."""

    hint = "Wait for the seconds that Retry-After says; CONFKEEP_HTTP_REQUESTS and CONFKEEP_HTTP_MIB are the bounds."
    retryable = True
    exit_code = 62


class QueueError(ConfkeepError):
    """Redis, an inbox or a lock failed."""

    retryable = True
    exit_code = 10


class BrokerUnavailable(QueueError):
    """Redis cannot be reached or refuses writes. The last call may have taken effect."""

    hint = (
        "Check that the server runs and that CONFKEEP_REDIS_URL names it, then repeat the call: "
        "the same backup_id is never committed twice."
    )
    exit_code = 11


class NotPermitted(BrokerUnavailable):
    """The server's rules forbid the call to this user. Nothing was done."""

    hint = (
        "Check the user name in CONFKEEP_REDIS_URL and its rights on the server: `confkeep acl` "
        "prints the rules of each role, docs/security.md explains them."
    )
    retryable = False
    exit_code = 18


class OddValue(BrokerUnavailable):
    """A key of confkeep's holds a foreign value. Nothing was done."""

    hint = (
        "Repeat the call once the key is in order; `confkeep status` names such keys and what to do "
        "about each."
    )
    exit_code = 19


class TooFewReplicas(BrokerUnavailable):
    """Too few replicas confirmed a backup in time: it may be accepted, but a failover could lose it."""

    hint = (
        "Repeat the call with the same backup_id: it is never committed twice. If this goes on, start the "
        "replicas (`INFO replication` on the server shows them) or lower CONFKEEP_REPLICAS."
    )


class BrokerVolatile(QueueError):
    """Redis may lose acknowledged data: it evicts keys, or keeps no append-only file."""

    hint = (
        "Set appendonly yes, appendfsync always and maxmemory-policy noeviction on the server, or "
        "CONFKEEP_ALLOW_VOLATILE_BROKER=1 to work without promises."
    )
    retryable = False
    exit_code = 14


class InboxFull(QueueError):
    """A limit on waiting backups or bytes is reached. Nothing of this backup was kept."""

    hint = "Enqueue again when the workers have caught up; `confkeep status` shows what waits."
    exit_code = 15


class TenantLocked(QueueError):
    """Another process held the tenant lock for as long as the caller waited."""

    hint = "Another worker is committing for this tenant; try again in a few seconds."
    exit_code = 12


class StagingUnavailable(QueueError):
    """The staging volume is full, read-only, forbidden or not mounted."""

    hint = "Check the volume that CONFKEEP_STAGING_PATH names; nothing was accepted."
    exit_code = 13


class NoReceipt(QueueError):
    """An accepted backup is not in git yet, or no worker answered in time. It is not lost."""

    hint = (
        "`confkeep status` shows whether a worker runs; start one with `confkeep up` or "
        "`confkeep worker`. Workers commit everything that was accepted."
    )
    exit_code = 16


class BackupsWaiting(QueueError):
    """The device or tenant to erase has uncommitted backups. Nothing was erased."""

    hint = "Let the workers commit what waits, or stop the device's polling, and run the command again."
    exit_code = 17


class PoisonedBackup(ConfkeepError):
    """This backup can never be committed: it becomes a dead letter, and its result fails with this."""

    hint = (
        "`confkeep dead-letters list` shows it with its reason; retry or discard it there, and "
        "enqueue a new capture of the device."
    )
    exit_code = 20


class StagedBytesMissing(PoisonedBackup):
    """A backup's bytes are no longer in staging."""

    exit_code = 21


class StagedBytesDamaged(PoisonedBackup):
    """A backup's staged bytes differ in size or SHA-256 from what was accepted."""

    exit_code = 22


class EntryMissing(PoisonedBackup):
    """A backup's record says that it waits, but its tenant's inbox has no entry for it."""

    hint = (
        "Hand the backup over again with the same backup_id. If no copy is left, poll the device "
        "again and discard the dead letter."
    )
    exit_code = 24


class NotSigned(PoisonedBackup):
    """An inbox entry has no signature, or none of our keys made it: it may be forged."""

    hint = (
        "If you know its producer (it has no CONFKEEP_SIGNING_KEY, or a retired one), "
        "`confkeep dead-letters retry --sign BACKUP_ID` vouches for it; if not, discard it and see "
        "docs/security.md: somebody else may write to the server."
    )
    exit_code = 23


class Unhealthy(ConfkeepError):
    """A health probe failed."""

    hint = "`confkeep health --json` says which worker and why."
    exit_code = 50


class NotAlive(Unhealthy):
    """No worker of this deployment runs on this machine, or its loop hangs."""

    hint = "Restart the worker; accepted backups wait in the inboxes."
    exit_code = 51


class NotReady(Unhealthy):
    """A worker runs, but Redis does not answer it, or its store refuses writes."""

    hint = "A restart does not help: check the server, the network and the store's volume."
    retryable = True
    exit_code = 52


class ExtraMissing(ConfkeepError):
    """An optional library is not installed.

    Args:
        what: what needs it.
        extra: the extra of confkeep that brings it.
    """

    hint = "Install the extra that is named, such as pip install 'confkeep[http]'."
    exit_code = 7

    def __init__(self, what: str, extra: str = "http") -> None:
        super().__init__(what, extra, hint=f"pip install 'confkeep[{extra}]'.")
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.args[0]} needs the extra `{self.extra}`, which is not installed"


class NotDelivered(ConfkeepError):
    """A webhook or a digest did not reach its receiver, or was refused there."""

    hint = "Check that the receiver runs and accepts what is sent, then send it again."
    retryable = True
    exit_code = 63


class StoreError(ConfkeepError):
    """A tenant's git repository failed."""

    exit_code = 30


class StoreMissing(StoreError):
    """The store's folder is missing.

    No `NotInStore`, which means "this device has no backups".
    """

    hint = (
        "CONFKEEP_GIT_STORE_PATH names it: correct the path, or mount its volume. A worker makes the "
        "folder of a new store when it starts."
    )
    exit_code = 36


class StoreNotShared(StoreError):
    """This store is not the one that the workers of its shards commit to. Nothing was committed."""

    hint = (
        "Mount the one store that all workers share at CONFKEEP_GIT_STORE_PATH. If this one is right, as "
        "after a restore, end the other workers and run `confkeep store --use`."
    )
    exit_code = 44


class NotInStore(StoreError, KeyError):
    """No such repository, commit, device or file."""

    hint = "`confkeep history TENANT DEVICE` lists the commits."
    exit_code = 31

    def __str__(self) -> str:
        return Exception.__str__(self)


class RemovedByRetention(NotInStore):
    """Retention or an erasure removed the version, or its binary."""

    hint = "`confkeep history TENANT DEVICE` lists what was kept; docs/retention.md has the rules."
    exit_code = 37


class UndoImpossible(StoreError):
    """Retention's rewrite can no longer be undone: it is pruned, or another program moved `main`."""

    hint = "`git for-each-ref refs/confkeep` in the repository lists the histories still kept."
    exit_code = 38


class ErasureIncomplete(StoreError):
    """The check after an erasure still found data of the device; the message says what."""

    hint = "Run the command again; if it fails again, keep the message and ask for help."
    exit_code = 40


class RepositoryBusy(StoreError):
    """Another writer moved the ref or holds its lock. Nothing was acknowledged."""

    hint = "Try again in a few seconds; tasks retry by themselves. `confkeep verify` lists locks."
    retryable = True
    exit_code = 32


class RepositoryDamaged(StoreError):
    """Files on disk contradict git. Nothing was changed."""

    hint = (
        "`confkeep verify` says what is damaged; `confkeep repair` rebuilds what git can derive; "
        "restore the other files from a copy. The inbox waits meanwhile."
    )
    exit_code = 33


class SideFileDamaged(RepositoryDamaged):
    """The map of ids or a tenant's rules are damaged, and git cannot rebuild them.

    Whatever needs the damaged part waits: otherwise a backup could be committed twice, or removed
    against the rules. Nothing was changed.
    """

    hint = (
        'Put the named file back from a copy of the store; docs/operate.md, "A file beside git is '
        'damaged", says what to do without one. The inbox waits meanwhile, and nothing is lost.'
    )


class RestoreFailed(StoreError):
    """A drill's restored file differs from the history."""

    hint = (
        "The report names each version and its fault; `confkeep verify` says whether the repository "
        "is damaged. --seed with the report's seed takes the same sample again."
    )
    exit_code = 43


class StoreUnavailable(StoreError):
    """The file system is full, read-only or forbidden."""

    hint = "Free space or repair the permissions; accepted backups wait in the inbox."
    retryable = True
    exit_code = 34


class NotOwner(StoreUnavailable):
    """The repository, or one of its files, belongs to another user. Nothing was changed."""

    hint = (
        "Run the command as that user: `sudo -u '#UID' confkeep ...`, with systemd "
        "`confkeep-as-service ...`, in containers `docker compose exec worker confkeep ...` or "
        "`kubectl exec`; docs/deploy/README.md."
    )
    exit_code = 35


class GitUnavailable(StoreError):
    """Maintenance and checks need git 2.36, and it is missing or older."""

    hint = "Install git 2.36 or later on PATH; commits, histories and restores work without it."
    exit_code = 41


class MaintenanceFailed(StoreError):
    """Git failed or timed out during maintenance. Nothing was removed."""

    hint = (
        "Try again when the machine has less to do; workers repack again by themselves. `confkeep "
        "verify` says whether the repository is sound."
    )
    retryable = True
    exit_code = 42
