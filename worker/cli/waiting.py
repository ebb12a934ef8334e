"""Waits for many receipts at once, and gives up when none comes for too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from confkeep.broker.connections import get_client
from confkeep.errors import NoReceipt
from confkeep.queue import receipts
from confkeep.queue.answers import Answer, read
from confkeep.settings import get_settings
from confkeep.wording import count_text
from worker.process.waits import advice
from worker.queue import backoff

#: Seconds without any receipt after which no worker seems to run.
SILENCE_S: Final = 30.0
#: Seconds between two looks.
_POLL_S: Final = 0.05


class Receipts:
    """The backups whose receipts are still to come.

    Args:
        silence_s: seconds without any answer after which waiting ends.
        check: called at each look; raises to end the waiting, as when nobody can answer any more.
        tenant_id: the tenant of all the backups; None if they are of several.
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
        """Wait for these backups too."""
        if not self._open:
            self._heard_at = time.monotonic()
        self._open.update(dict.fromkeys(backup_ids))

    def poll(self) -> list[Answer]:
        """The answers since the last call; does not wait.

        Raises, besides what `check` raises:
            NoReceipt: none came for `silence_s`.
            BrokerUnavailable: Redis did not answer.
        """
        if self._check is not None:
            self._check()
        answers = read(get_client(), list(self._open))
        for answer in answers:
            del self._open[answer.backup_id]
        now = time.monotonic()
        if answers:
            self._heard_at = now
            return answers
        if self._open and now - self._heard_at > self._silence_s:
            waiting = f"{count_text(len(self._open), 'accepted backup')} without a receipt"
            reason = self._why_not()
            if reason is None:
                raise NoReceipt(f"no worker answered for {self._silence_s:g} s; {waiting}")
            raise NoReceipt(
                f"no receipt for {self._silence_s:g} s; {waiting}. The last commit failed: {reason}. "
                f"{advice(reason, get_settings(), self._tenant_id)}"
            )
        return answers

    def _why_not(self) -> str | None:
        """Why the tenant's, or the oldest backup's, last commit failed; None if it did not."""
        if self._tenant_id is not None:
            wait = backoff.get(get_client(), self._tenant_id)
            return None if wait is None else wait.reason
        record = receipts.read(get_client(), next(iter(self._open)))
        if record is None or record.get("status") != "RETRY":
            return None
        error = receipts.error_of(record.get("result"))
        return f"{type(error).__name__}: {error}"

    def wait(self) -> list[Answer]:
        """The next answers, at least one while any is to come; raises as `poll`."""
        while True:
            answers = self.poll()
            if answers or not self._open:
                return answers
            time.sleep(_POLL_S)
