"""One batch of one tenant: from staged bytes to commits to receipts."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confkeep.errors import ConfkeepError, PoisonedBackup, RepositoryBusy
from confkeep.models import Receipt
from confkeep.observe.logs import get_logger
from confkeep.queue import staging
from confkeep.queue.entry import Entry
from confkeep.queue.events import Event
from confkeep.queue.receipts import Outcome
from confkeep.queue.staged_bytes import Contents
from worker.engine.commit_events import event_of
from worker.engine.receipt import fields_of
from worker.observe import measure, metrics
from worker.queue import dead_letters, totals
from worker.queue.inbox import Batch, Inbox, Leave, Settled, Waiting
from worker.queue.totals import Mark
from worker.store.repository.backup import Backup, Committed, Naming
from worker.store.writing.commit import Writer
from worker.store.writing.stopwatch import Stopwatch

log = get_logger("drain")

#: A backup becomes a dead letter after so many tries, alone, that ended with their process.
_GIVE_UP_AFTER = 10

#: Try a batch so often whose branch somebody else moves meanwhile.
_BUSY_TRIES = 5


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a batch."""

    committed: int
    dead: int
    settled: Settled


class BatchCommitter:
    """Commits one batch after the other into one open repository. The caller holds the tenant lock."""

    def __init__(self, inbox: Inbox, writer: Writer) -> None:
        self._inbox = inbox
        self._client = inbox.client
        self._settings = inbox.settings
        self._tenant_id = inbox.tenant_id
        self._writer = writer

    def run(self, batch: Batch, *, leave: Leave = "no", token: str = "") -> Done:
        """Commit, then publish and settle, in this order.

        Args:
            leave, token: as `Inbox.settle` wants them.

        Raises:
            StoreError, QueueError: a fault of the system; what is not settled is in the inbox still.
        """
        started, watch = time.monotonic(), Stopwatch()
        backups, poisoned = self._build(batch.entries, watch)
        if batch.attempts >= _GIVE_UP_AFTER and len(batch.entries) == 1 and backups:
            # It was tried alone, and each try ended with its process.
            backups.clear()
            poisoned[batch.entries[0].stream_id] = PoisonedBackup(
                f"{batch.attempts} tries to commit it did not come to an end"
            )
        watch.lap("check")
        committed = {answer.backup_id: answer for answer in self._commit(backups, watch)}
        done, dead = [], []
        outcomes: dict[str, Outcome] = {}
        marks: dict[str, Mark] = {}
        told: dict[str, Event] = {}
        for waiting in batch.entries:
            entry = waiting.entry
            error = poisoned.get(waiting.stream_id)
            value: dict[str, object] | ConfkeepError
            if error is not None:
                letter = dead_letters.bury(
                    self._inbox, entry, error, waiting.signature, waiting.raw
                )
                told[entry.backup_id] = dead_letters.event_of(letter, waiting.stream_id)
                dead.append(waiting)
                marks[entry.backup_id] = totals.DEAD
                value = error
                log.warning(
                    "a backup became a dead letter",
                    action="backup.dead",
                    tenant_id=self._tenant_id,
                    device_id=entry.device_id,
                    device_name=entry.device_name,
                    backup_id=entry.backup_id,
                    reason=f"{type(error).__name__}: {error}",
                )
            else:
                done.append(waiting)
                receipt = self._receipt(committed[entry.backup_id])
                marks[entry.backup_id] = totals.mark_of(receipt)
                value = receipt.model_dump(mode="json")
                told[entry.backup_id] = event_of(self._tenant_id, committed[entry.backup_id], value)
                log.debug(
                    "committed a backup",
                    action="backup.committed",
                    tenant_id=self._tenant_id,
                    device_id=entry.device_id,
                    backup_id=entry.backup_id,
                    device_name=receipt.device_name,
                    sha=receipt.sha,
                    unchanged=receipt.unchanged,
                )
            digest = entry.digest(self._tenant_id)
            outcomes[entry.backup_id] = Outcome(entry.backup_id, digest, value)
        watch.lap("receipts")
        settled = self._inbox.settle(
            batch.entries,
            outcomes=outcomes,
            marks=marks,
            events=told,
            leave=leave,
            token=token,
        )
        for entry in (waiting.entry for waiting in done):
            staging.of_entry(entry, self._settings, self._client).discard(self._tenant_id, [entry])
        watch.lap("settle")
        _measure(done, len(dead), marks, settled.at_ms, watch)
        log.info(
            "committed a batch",
            action="batch.committed",
            tenant_id=self._tenant_id,
            sha=next(reversed(committed.values())).sha if committed else None,
            backups=len(done),
            dead=len(dead),
            seconds=round(time.monotonic() - started, 4),
        )
        return Done(len(done), len(dead), settled)

    def _build(
        self, batch: list[Waiting], watch: Stopwatch
    ) -> tuple[list[Backup | Naming], dict[str, PoisonedBackup]]:
        """The backups that can be committed, and by stream id why the others cannot."""
        backups: list[Backup | Naming] = []
        poisoned: dict[str, PoisonedBackup] = {}
        read = self._read(batch)
        watch.lap("read")
        for waiting, found in zip(batch, read, strict=True):
            try:
                contents = staging.checked(waiting.entry, found)
            except PoisonedBackup as error:
                poisoned[waiting.stream_id] = error
            else:
                backups.append(_backup(waiting.entry, contents.export, contents.binary))
        if poisoned:
            # A turn that was killed between commit and settling may have left entries whose bytes
            # are gone: what is in git needs none.
            suspects = [w.entry for w in batch if w.stream_id in poisoned]
            in_git = self._writer.find_committed(
                {entry.backup_id: entry.device_id for entry in suspects}
            )
            for waiting in batch:
                if waiting.stream_id in poisoned and waiting.entry.backup_id in in_git:
                    del poisoned[waiting.stream_id]
                    backups.append(_backup(waiting.entry, b"", None))
        return backups, poisoned

    def _read(self, batch: list[Waiting]) -> list[Contents | None]:
        found: dict[str, Contents | None] = {}
        unread: dict[str, list[Waiting]] = {}
        for waiting in batch:
            if waiting.entry.is_naming:
                found[waiting.stream_id] = Contents(b"", None)
            elif waiting.entry.staging == "redis" and waiting.staged is not None:
                found[waiting.stream_id] = staging.split(waiting.entry, waiting.staged)
            else:
                unread.setdefault(waiting.entry.staging, []).append(waiting)
        for there in unread.values():
            store = staging.of_entry(there[0].entry, self._settings, self._client)
            read = store.read(self._tenant_id, [waiting.entry for waiting in there])
            found.update(zip((waiting.stream_id for waiting in there), read, strict=True))
        return [found[waiting.stream_id] for waiting in batch]

    def _commit(self, backups: list[Backup | Naming], watch: Stopwatch) -> list[Committed]:
        if not backups:
            return []
        for _ in range(_BUSY_TRIES - 1):
            with suppress(RepositoryBusy):
                return self._writer.commit_backups(backups, watch=watch)
            time.sleep(0.02)
        return self._writer.commit_backups(backups, watch=watch)

    def _receipt(self, committed: Committed) -> Receipt:
        receipt = Receipt(**fields_of(self._tenant_id, committed))
        if receipt.suspect is not None:
            log.warning(
                "a capture is suspect; it is committed all the same",
                action="backup.suspect",
                tenant_id=self._tenant_id,
                device_id=committed.device_id,
                device_name=committed.device_name,
                backup_id=committed.backup_id,
                reason=receipt.suspect,
            )
        return receipt


def _measure(
    done: Sequence[Waiting], dead: int, marks: Mapping[str, Mark], at_ms: int, watch: Stopwatch
) -> None:
    """Let this worker's metrics know of a batch that is settled."""
    measure.count(metrics.WORKER_COMMITTED, len(done))
    measure.count(
        metrics.WORKER_UNCHANGED, sum("unchanged" in mark.words for mark in marks.values())
    )
    measure.count(metrics.WORKER_SUSPECT, sum("suspect" in mark.words for mark in marks.values()))
    measure.count(metrics.WORKER_DEAD, dead)
    measure.observe(metrics.WORKER_LATENCY, (waiting.age_s(at_ms) for waiting in done))
    for step, seconds in watch.seconds.items():
        measure.observe(metrics.WORKER_STEP, [seconds], step)


def _backup(entry: Entry, export: bytes, binary: bytes | None) -> Backup | Naming:
    if entry.is_naming:
        return Naming(entry.backup_id, entry.device_id, entry.labels, entry.message)
    return Backup(
        backup_id=entry.backup_id,
        device_id=entry.device_id,
        export=export,
        binary=binary,
        message=entry.message,
        captured_at=(
            None if entry.captured_at is None else dt.datetime.fromisoformat(entry.captured_at)
        ),
        labels=entry.labels,
    )
