"""Sends many captures through the queue, in order, with a bound on the bytes on the way."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from confkeep import BackupPayload, InvalidBackup, enqueue_backups
from confkeep.errors import InboxFull
from confkeep.queue.answers import Answer
from worker.cli.sources.captures import Capture
from worker.cli.waiting import Receipts

#: Most bytes, and backups, to hand over in one go.
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_CHUNK_BACKUPS: Final = 100
#: The sender waits when this many bytes are accepted and have no receipt yet.
_WINDOW_BYTES: Final = 32 * 1024 * 1024
#: Seconds between two tries while the inboxes are full.
_FULL_POLL_S: Final = 0.25


@dataclass(slots=True)
class Sent:
    """What has become of the captures."""

    imported: int = 0
    #: In git already, with the same bytes.
    already_there: int = 0
    #: Of the imported ones, those whose files equal the device's last ones.
    unchanged: int = 0
    #: Places of captures that were not accepted, with the reason.
    refused: list[tuple[str, str]] = field(default_factory=list)
    #: Places of captures that became dead letters, with the reason.
    dead: list[tuple[str, str]] = field(default_factory=list)


class Sender:
    """Hands captures over and collects their receipts.

    Args:
        already_there: backup_ids that need not be sent again.
        advance: called with the number of captures that are done.
        silence_s: seconds without any receipt after which sending ends.
        check: called often; raises when nobody can answer any more, or to end the waiting.
    """

    def __init__(
        self,
        already_there: Collection[str],
        advance: Callable[[int], None],
        *,
        silence_s: float,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.sent = Sent()
        self._already_there = already_there
        self._advance = advance
        self._silence_s = silence_s
        self._receipts = Receipts(silence_s=silence_s, check=check)
        self._on_the_way: dict[str, tuple[str, int]] = {}
        self._bytes_on_the_way = 0
        #: Devices of which a capture was not refused. Only the first such capture carries the device's label,
        #: so that a second import of the same source does not replace a name that a person gave meanwhile.
        self._labelled: set[str] = set()
        self._chunk: list[BackupPayload] = []
        self._chunk_bytes = 0
        # Receipts have whole seconds. An older receipt is from an earlier import.
        self._started = dt.datetime.now(dt.UTC).replace(microsecond=0)

    def send(self, captures: Iterable[Capture]) -> Sent:
        """Send all and wait for their receipts.

        Raises:
            NoReceipt: no worker answered for too long; what was accepted is not lost.
            InboxFull: too much waits already, and that did not change for as long.
            BrokerUnavailable: Redis did not answer. Sending again goes on where it ended.
        """
        for capture in captures:
            self._add(capture)
        self._flush()
        while self._on_the_way:
            self._collect(self._receipts.wait())
        return self.sent

    def _add(self, capture: Capture) -> None:
        place = capture.place
        if capture.known_id in self._already_there:
            self._labelled.add(capture.row.device_id)
            self._skip()
            return
        try:
            payload = payload_of(capture, labelled=capture.row.device_id not in self._labelled)
        except InvalidBackup as error:
            self.sent.refused.append((place, str(error)))
            self._advance(1)
            return
        except OSError as error:
            self.sent.refused.append((place, error.strerror or type(error).__name__))
            self._advance(1)
            return
        self._labelled.add(capture.row.device_id)
        if payload.backup_id in self._already_there or payload.backup_id in self._on_the_way:
            self._skip()
            return
        size = len(payload.export_text) + len(payload.binary_backup or b"")
        self._on_the_way[payload.backup_id] = (place, size)
        self._bytes_on_the_way += size
        self._chunk.append(payload)
        self._chunk_bytes += size
        if self._chunk_bytes >= _CHUNK_BYTES or len(self._chunk) == _CHUNK_BACKUPS:
            self._flush()

    def _skip(self) -> None:
        self.sent.already_there += 1
        self._advance(1)

    def _flush(self) -> None:
        if self._chunk:
            self._enqueue()
            self._receipts.expect([payload.backup_id for payload in self._chunk])
            self._chunk, self._chunk_bytes = [], 0
        self._collect(self._receipts.poll())
        while self._bytes_on_the_way > _WINDOW_BYTES:
            self._collect(self._receipts.wait())

    def _enqueue(self) -> None:
        """Hand the chunk over; wait while the inboxes are full."""
        began = time.monotonic()
        while True:
            try:
                enqueue_backups(self._chunk)
            except InboxFull:
                if time.monotonic() - began > self._silence_s:
                    raise
                self._collect(self._receipts.poll())
                time.sleep(_FULL_POLL_S)
            else:
                return

    def _collect(self, answers: Iterable[Answer]) -> None:
        done = 0
        for answer in answers:
            place, size = self._on_the_way.pop(answer.backup_id)
            self._bytes_on_the_way -= size
            done += 1
            if answer.receipt is None:
                self.sent.dead.append((place, str(answer.error)))
            elif answer.receipt.committed_at < self._started:
                self.sent.already_there += 1
            else:
                self.sent.imported += 1
                self.sent.unchanged += answer.receipt.unchanged
        if done:
            self._advance(done)


def payload_of(capture: Capture, *, labelled: bool) -> BackupPayload:
    """A capture as it is handed over, with the device's labels or without.

    Raises:
        InvalidBackup: it would be refused.
        OSError: it cannot be read.
    """
    export, binary = capture.read()
    return BackupPayload.checked(
        tenant_id=capture.row.tenant_id,
        device_id=capture.row.device_id,
        export_text=export,
        binary_backup=binary,
        message=capture.message,
        backup_id=capture.backup_id(export, binary),
        captured_at=capture.captured_at,
        device_name=capture.row.label if labelled else None,
        device_group=capture.row.group if labelled else None,
    )
