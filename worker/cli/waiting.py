"""Waiting for many receipts at once, with a bound on silence; it sends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from celery import states

from confkeep.app import app
from confkeep.broker import keys, redis_values
from confkeep.broker.connections import get_client
from confkeep.errors import ConfkeepError, NoReceipt
from confkeep.queue import receipts
from confkeep.settings import get_settings
from worker.process.waits import advice
from worker.queue import backoff

#: Seconds without any receipt after which nobody seems to work.
SILENCE_S: Final = 30.0
#: Seconds between two looks.
_POLL_S: Final = 0.05
#: Most results asked for at once.
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one backup."""

    backup_id: str
    #: The receipt's fields; None when the backup became a dead letter.
    receipt: dict[str, Any] | None
    error: BaseException | None = None

    def problem(self) -> str:
        """Why there is no receipt."""
        kind = "" if isinstance(self.error, ConfkeepError) else f"{type(self.error).__name__}: "
        return f"{kind}{self.error}"


class Receipts:
    """The backups whose receipts are still to come.

    Args:
        silence_s: seconds without any answer after which waiting ends.
        check: called at each look; raises when nobody can answer any more, or to end the waiting.
        tenant_id: whose backups they are; None: those of several.
    """

    def __init__(
        self,
        *,
        silence_s: float = SILENCE_S,
        check: Callable[[], None] | None = None,
        tenant_id: str | None = None,
    ) -> None:
        self._tenant_id = tenant_id
        self._silence_s = silence_s
        self._check = check
        self._open: dict[str, None] = {}
        self._heard_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._open)

    def expect(self, backup_ids: Iterable[str]) -> None:
        """Wait for these too."""
        if not self._open:
            self._heard_at = time.monotonic()
        self._open.update(dict.fromkeys(backup_ids))

    def poll(self) -> list[Answer]:
        """The answers that arrived since the last call; does not wait.

        Raises, besides what the check raises:
            NoReceipt: none came for `silence_s`.
            BrokerUnavailable: Redis did not answer.
        """
        if self._check is not None:
            self._check()
        answers = []
        ids = list(self._open)
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            answers += _read(chunk)
        for answer in answers:
            del self._open[answer.backup_id]
        now = time.monotonic()
        if answers:
            self._heard_at = now
            return answers
        if self._open and now - self._heard_at > self._silence_s:
            waiting = f"{len(self._open)} accepted and waiting"
            reason = self._why_not()
            if reason is None:
                raise NoReceipt(f"no worker answered for {self._silence_s:g} s; {waiting}")
            raise NoReceipt(
                f"no receipt for {self._silence_s:g} s; {waiting}. The last commit failed: {reason}. "
                f"{advice(reason, get_settings(), self._tenant_id)}"
            )
        return answers

    def _why_not(self) -> str | None:
        """Why the last commit failed, of the tenant or at least of the oldest; None: it did not."""
        if self._tenant_id is not None:
            wait = backoff.get(get_client(), self._tenant_id)
            return None if wait is None else wait.reason
        record = receipts.read(get_client(), next(iter(self._open)))
        if record is None or record.get("status") != "RETRY":
            return None
        error = app.backend.meta_from_decoded(record).get("result")
        return f"{type(error).__name__}: {error}" if isinstance(error, ConfkeepError) else None

    def wait(self) -> list[Answer]:
        """The next answers, at least one while any is to come; raises as `poll`."""
        while True:
            answers = self.poll()
            if answers or not self._open:
                return answers
            time.sleep(_POLL_S)


def _read(backup_ids: list[str]) -> list[Answer]:
    """The answers that are there."""
    pipe = get_client().pipeline(transaction=False)
    pipe.mget([keys.result(backup_id) for backup_id in backup_ids])
    (found,) = redis_values.answers(pipe)
    answers = []
    for backup_id, text in zip(backup_ids, found, strict=True):
        if text is None:
            continue
        try:
            meta = redis_values.object_of(text, most_bytes=receipts.MOST_RECORD_BYTES)
        except redis_values.Unreadable:
            answers.append(Answer(backup_id, None, receipts.garbled(backup_id)))
            continue
        if meta.get("status") in states.READY_STATES:
            answers.append(_answer(backup_id, app.backend.meta_from_decoded(meta)))
    return answers


def _answer(backup_id: str, meta: dict[str, Any]) -> Answer:
    result = meta.get("result")
    if meta.get("status") == "SUCCESS" and isinstance(result, dict):
        return Answer(backup_id, result)
    error = result if isinstance(result, BaseException) else RuntimeError(str(result))
    return Answer(backup_id, None, error)
