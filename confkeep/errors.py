"""The one tree of errors.

    ConfkeepError
    ├── InvalidInput              what the caller gave is wrong; the message names field and limit
    │   ├── InvalidBackup         a backup that no enqueue accepts
    │   │   └── BackupIdConflict  the backup_id was used before, for other bytes
    │   ├── MessageRefused        a Celery message that no worker acts on
    │   ├── InvalidSettings       an environment variable is missing or wrong
    │   └── InvalidId             not an id, or a prefix of none or of several (also a KeyError)
    │       └── UnknownBackup     nothing was ever accepted under that backup_id, as far as is known
    ├── QueueError                Redis, the inbox or the lock
    │   ├── BrokerUnavailable     Redis cannot be reached, or refuses to write
    │   │   ├── NotPermitted      the rules of the server do not allow it to this user
    │   │   ├── OddValue          what stands under a key of confkeep's is not confkeep's
    │   │   └── TooFewReplicas    the server has it, and not as many replicas as are wanted
    │   ├── BrokerVolatile        Redis may lose what it acknowledged
    │   ├── InboxFull             a limit on what may wait is reached
    │   ├── TenantLocked          another process holds the tenant lock
    │   ├── StagingUnavailable    the shared volume refused: full, read-only, not permitted
    │   ├── BackupsWaiting        what is to be erased has backups that are not committed yet
    │   └── NoReceipt             what was accepted is not in git yet, or nobody answers for it
    ├── PoisonedBackup            this backup can never be committed; it becomes a dead letter
    │   ├── StagedBytesMissing    its bytes are not in staging
    │   ├── StagedBytesDamaged    its bytes are not those that were accepted
    │   ├── EntryMissing          its entry is not in the inbox, so nobody commits it
    │   └── NotSigned             no key of ours signed its inbox entry
    ├── Unhealthy                 what a probe asked for is not so
    │   ├── NotAlive              no worker, or its loop hangs: start it again
    │   └── NotReady              the worker lives and cannot commit now: wait
    └── StoreError                a tenant's git repository
        ├── StoreMissing          the folder of all repositories is not there
        ├── NotInStore            no such repository, commit, device or file (also a KeyError)
        │   └── RemovedByRetention    it was there, and rules or an erasure removed it
        ├── UndoImpossible        a rewrite by retention cannot be undone any more
        ├── ErasureIncomplete     something of a forgotten device is there still
        ├── RepositoryBusy        another writer moved the ref or holds its lock
        ├── RepositoryDamaged     what is on disk is not what git says
        │   └── SideFileDamaged   a file beside git's own is not what was written
        ├── RestoreFailed         a drill restored something else than the history says
        ├── StoreUnavailable      the file system refused: full, read-only, not permitted
        │   └── NotOwner          the files are another user's
        ├── GitUnavailable        there is no git binary, or it is too old, for maintenance
        └── MaintenanceFailed     git failed or took too long; nothing was removed

Each class says what a person can do (`hint`), whether the same call may succeed later
(`retryable`), and which status the command line ends with (`exit_code`). Every error can be
rebuilt from its `args`, which are JSON: Celery carries errors to other processes that way.
No message ever holds a payload, a password or a secret.
"""

from __future__ import annotations

from typing import ClassVar


class ConfkeepError(Exception):
    """Any error that confkeep raises on purpose."""

    #: What a person can do about it.
    hint: ClassVar[str] = "Run the command again with --debug and report what it prints."
    #: Whether the same call may succeed later without any change by the caller.
    retryable: ClassVar[bool] = False
    #: The exit status of the command line.
    exit_code: ClassVar[int] = 1


class InvalidInput(ConfkeepError, ValueError):
    """What the caller gave is wrong.

    Args:
        field: the name of the field, argument or variable at fault.
        problem: what is wrong with it, naming the limit; never the value itself.
    """

    hint = "Correct the named field; the same input will be refused again."
    exit_code = 2

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class InvalidBackup(InvalidInput):
    """A backup that no enqueue accepts. Nothing of it was kept."""


class BackupIdConflict(InvalidBackup):
    """The backup_id was accepted before, for another device or for other bytes."""

    hint = "Use a new backup_id for a new capture; repeat an id only with the very same backup."


class MessageRefused(InvalidInput):
    """A Celery message that no worker acts on. It was set aside, and nothing of it was done."""

    hint = (
        "Send it as docs/integrate.md shows, without callbacks, compression and time limits; "
        "`confkeep refused list` shows what was set aside."
    )


class InvalidSettings(InvalidInput):
    """An environment variable is missing or wrong."""

    hint = "Correct the variable; the README lists all of them with their defaults."


class InvalidId(InvalidInput, KeyError):
    """Not an id of the kind that is wanted, or a prefix that names nothing or more than one thing.

    Also a `KeyError`: what is no id names nothing, and callers of `read_file` expect that.
    """

    hint = "`confkeep history` lists the tenants; `confkeep history TENANT` lists its devices."


class UnknownBackup(InvalidId):
    """No backup of that id waits, has a receipt or is a dead letter, and none is in git."""

    hint = (
        "Check the id: what an enqueue did not accept has no receipt. "
        "`confkeep history TENANT DEVICE --json` lists the ids that are in git."
    )


class QueueError(ConfkeepError):
    """Redis, the inbox or the lock."""

    retryable = True
    exit_code = 10


class BrokerUnavailable(QueueError):
    """Redis cannot be reached, or refuses to write. Whether the last call took effect is unknown."""

    hint = (
        "Check that the server runs and that CONFKEEP_REDIS_URL names it, then repeat the call: "
        "the same backup_id is never committed twice."
    )
    exit_code = 11


class NotPermitted(BrokerUnavailable):
    """The rules for the server's users do not allow it to this one. Nothing was done."""

    hint = (
        "Look at the name in CONFKEEP_REDIS_URL and at what the server lets it do: `confkeep acl` "
        "prints the rules of each role, docs/security.md explains them."
    )
    retryable = False
    exit_code = 18


class OddValue(BrokerUnavailable):
    """Under a key of confkeep's stands what confkeep did not write. Nothing was done."""

    hint = (
        "`confkeep status` names such keys and what to do about each. Workers set aside what is of "
        "the wrong type, within seconds; then repeat the call."
    )
    exit_code = 19


class TooFewReplicas(BrokerUnavailable):
    """Too few replicas of the server answered for a backup in time: a failover could lose it now.

    Whether it is accepted is unknown, as for every `BrokerUnavailable`.
    """

    hint = (
        "Repeat the call with the same backup_id: it is never committed twice. If this goes on, start the "
        "replicas (`INFO replication` on the server shows them) or lower CONFKEEP_REPLICAS."
    )


class BrokerVolatile(QueueError):
    """Redis is set up to lose what it acknowledged: it evicts keys, or keeps no append-only file."""

    hint = (
        "Set appendonly yes, appendfsync always and maxmemory-policy noeviction on the server, or "
        "CONFKEEP_ALLOW_VOLATILE_BROKER=1 to work without promises."
    )
    retryable = False
    exit_code = 14


class InboxFull(QueueError):
    """A limit on the backups or bytes that may wait is reached; nothing of this one was kept."""

    hint = "Enqueue again when the workers have caught up; `confkeep status` shows what waits."
    exit_code = 15


class TenantLocked(QueueError):
    """Another process holds the tenant lock for longer than the caller wanted to wait."""

    hint = "Another worker is committing for this tenant; try again in a few seconds."
    exit_code = 12


class StagingUnavailable(QueueError):
    """The shared volume of staged bytes refused: full, read-only, not permitted, not mounted."""

    hint = "Check the volume that CONFKEEP_STAGING_PATH names; nothing was accepted meanwhile."
    exit_code = 13


class NoReceipt(QueueError):
    """What was accepted is not in git yet, or no worker answered in time. It waits, and is not lost."""

    hint = (
        "`confkeep status` shows whether a worker runs; start one with `confkeep up` or "
        "`confkeep worker`. What was accepted is committed as soon as one works."
    )
    exit_code = 16


class BackupsWaiting(QueueError):
    """What is to be erased has backups that are not committed yet; nothing was erased."""

    hint = "Let the workers commit them, or stop the device's polling, and run the command again."
    exit_code = 17


class PoisonedBackup(ConfkeepError):
    """This backup can never be committed; it becomes a dead letter and the others go on.

    Also the failure that waits under such a backup's result.
    """

    hint = (
        "`confkeep dead-letters list` shows it with its reason; retry or discard it there, and "
        "enqueue a new capture of the device."
    )
    exit_code = 20


class StagedBytesMissing(PoisonedBackup):
    """A backup's bytes are not in staging any more."""

    exit_code = 21


class StagedBytesDamaged(PoisonedBackup):
    """A backup's staged bytes do not have the size and SHA-256 that were accepted."""

    exit_code = 22


class EntryMissing(PoisonedBackup):
    """A backup's record says that it waits, and no entry stands for it in its tenant's inbox."""

    hint = (
        "Hand the backup over again with the same backup_id: it is accepted anew. If nobody has it "
        "any more, poll the device again and discard the dead letter."
    )
    exit_code = 24


class NotSigned(PoisonedBackup):
    """An inbox entry has no signature, or one that none of our keys made: it may be planted."""

    hint = (
        "If you know where it comes from (a producer without CONFKEEP_SIGNING_KEY, or with a key "
        "that was retired), `confkeep dead-letters retry --sign BACKUP_ID` vouches for it; if not, "
        "discard it and see docs/security.md: somebody else may write to the server."
    )
    exit_code = 23


class Unhealthy(ConfkeepError):
    """What a probe asked for is not so."""

    hint = "`confkeep health --json` says which worker and why."
    exit_code = 50


class NotAlive(Unhealthy):
    """No worker of this deployment runs on this machine, or the loop of one hangs."""

    hint = "Start the worker again; what was accepted waits in the inboxes."
    exit_code = 51


class NotReady(Unhealthy):
    """A worker lives, but Redis does not answer it, or its store takes no write."""

    hint = "A restart does not help: look at the server, the network and the store's volume."
    retryable = True
    exit_code = 52


class StoreError(ConfkeepError):
    """A tenant's git repository."""

    exit_code = 30


class StoreMissing(StoreError):
    """There is no folder where the store should be, so nothing is known of any history.

    No `NotInStore`: callers take that for "this device has no backups".
    """

    hint = (
        "Check CONFKEEP_GIT_STORE_PATH (a relative one begins at the working directory) and that the "
        "volume is mounted. A worker or the first commit makes the folder of a new store; so does mkdir."
    )
    exit_code = 36


class NotInStore(StoreError, KeyError):
    """No such repository, commit, device or file."""

    hint = "`confkeep history TENANT DEVICE` lists the commits that there are."
    exit_code = 31

    def __str__(self) -> str:
        return Exception.__str__(self)


class RemovedByRetention(NotInStore):
    """The version, or its binary, was in the store; retention or an erasure removed it."""

    hint = (
        "`confkeep history TENANT DEVICE` lists what was kept; docs/retention.md tells the rules."
    )
    exit_code = 37


class UndoImpossible(StoreError):
    """What retention removed cannot be brought back: it is pruned, or another program moved `main`."""

    hint = (
        "Within CONFKEEP_RETENTION_GRACE_DAYS the newest rewrite can be undone; "
        "`git for-each-ref refs/confkeep` in the repository shows which histories are there."
    )
    exit_code = 38


class ErasureIncomplete(StoreError):
    """An erasure's proof found something of the device. The message says what."""

    hint = "Run the command again; if that finds it too, keep the message and ask for help."
    exit_code = 40


class RepositoryBusy(StoreError):
    """Another writer moved the ref or holds its lock. Nothing was acknowledged."""

    hint = (
        "Try again in a few seconds; a task retries by itself. A lock that a dead process left is "
        "removed by the next opening, at most some seconds later; `confkeep verify` lists it."
    )
    retryable = True
    exit_code = 32


class RepositoryDamaged(StoreError):
    """What is on disk is not what git says. Nothing was changed."""

    hint = (
        "`confkeep verify` says what is damaged, and `confkeep repair` rebuilds what can be made "
        "from the rest; restore the other files from a copy. The inbox waits meanwhile."
    )
    exit_code = 33


class SideFileDamaged(RepositoryDamaged):
    """A file that cannot be made again from git is damaged: the map of ids, or a tenant's own rules.

    Nothing was changed. What needs the damaged part waits: an answer without it could commit a backup
    a second time, or remove what is to be kept.
    """

    hint = (
        'Put the named file back from a copy of the store; docs/operate.md, "A file beside git is '
        'damaged", says what to do without one. The inbox waits meanwhile, and nothing is lost.'
    )
    exit_code = 33


class RestoreFailed(StoreError):
    """A drill restored something else than the history says."""

    hint = (
        "The report names each version and what is wrong; `confkeep verify` says whether the "
        "repository is damaged. --seed with the report's seed takes the same sample again."
    )
    exit_code = 43


class StoreUnavailable(StoreError):
    """The file system refused: no space, read-only, or not permitted."""

    hint = "Free space or repair the permissions; what was accepted waits in the inbox."
    retryable = True
    exit_code = 34


class NotOwner(StoreUnavailable):
    """The repository, or a file of it, belongs to another user. Nothing was changed."""

    hint = (
        "Run the command as that user: `sudo -u '#UID' confkeep ...`, with systemd "
        "`confkeep-as-service ...`, in containers `docker compose exec worker-0 confkeep ...` or "
        "`kubectl exec`; docs/deploy/README.md."
    )
    exit_code = 35


class GitUnavailable(StoreError):
    """Maintenance and checks need a git binary, and there is none, or it is too old."""

    hint = (
        "Install git 2.36 or later on PATH; commits, histories and restores work without, but nothing is "
        "verified, repaired or repacked."
    )
    exit_code = 41


class MaintenanceFailed(StoreError):
    """A git that maintenance started failed or took too long. Nothing was removed."""

    hint = "Run `confkeep verify` on the tenant; the repack is tried again by itself."
    retryable = True
    exit_code = 42
