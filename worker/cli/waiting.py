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
    """

    def __init__(
        self,
        *,
        silence_s: float = SILENCE_S,
        check: Callable[[], None] | None = None,
    ) -> None:
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
            record = receipts.read(get_client(), next(iter(self._open))) or {}
            tenant_id = record.get("tenant") or ""
            wait = backoff.get_many(get_client(), [tenant_id]).get(tenant_id)
            if wait is None:
                raise NoReceipt(f"no worker answered for {self._silence_s:g} s; {waiting}")
            raise NoReceipt(
                f"no receipt for {self._silence_s:g} s; {waiting}. The last commit failed: "
                f"{wait.reason}. {advice(wait.reason, get_settings(), tenant_id)}"
            )
        return answers

    def wait(self) -> list[Answer]:
        """The next answers, at least one while any is to come; raises as `poll`."""
        while True:
            answers = self.poll()
            if answers or not self._open:
                return answers
            time.sleep(_POLL_S)
