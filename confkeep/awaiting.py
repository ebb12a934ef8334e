"""Wait for receipts in asyncio: one connection per event loop polls for all of them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import redis
import redis.asyncio

from confkeep.broker import keys
from confkeep.broker.broker_faults import explain, is_outage
from confkeep.broker.connections import open_asyncio_client
from confkeep.errors import ConfkeepError, NoReceipt
from confkeep.ids import checked_uuid
from confkeep.models import Receipt
from confkeep.queue.answers import CHUNK, Answer, of_records
from confkeep.settings import get_settings

#: Seconds between two polls, and most records polled in a second: the more that wait, the rarer the
#: polls. 20,000 records take the server about 10 ms.
_POLL_S: Final = 0.05
_MOST_PER_S: Final = 20_000
#: Seconds to wait out an outage: a restarted server is back by then.
_OUTAGE_S: Final = 10.0
#: Errors that waiting does not fix: the user's name, password or rules.
_REFUSED: Final = (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError)


async def receipt(backup_id: str | uuid.UUID, timeout: float | None = None) -> Receipt:  # noqa: ASYNC109 - as `BackupResult.receipt`
    """Wait until a backup is committed, without holding a thread.

    Args:
        backup_id: of an accepted backup; an unknown id is waited for too.
        timeout: seconds; None waits for ever.

    Raises:
        InvalidId: it is no UUID.
        NoReceipt: it is not committed yet. It is accepted all the same.
        PoisonedBackup: it became a dead letter.
        BrokerUnavailable: Redis did not answer for ten seconds. It is accepted all the same.
    """
    backup_id = checked_uuid("backup_id", backup_id)
    loop = asyncio.get_running_loop()
    waiters = _waiters.get(loop)
    if waiters is None:
        waiters = _waiters[loop] = _Waiters()
    try:
        answer = await asyncio.wait_for(waiters.expect(backup_id), timeout)
    except TimeoutError:
        raise not_yet(backup_id, timeout) from None
    if answer.receipt is None:
        raise answer.error or NoReceipt(f"backup {backup_id} ended without a reason")
    return answer.receipt


def not_yet(backup_id: str, timeout: float | None) -> NoReceipt:
    """The error after `timeout` seconds without a receipt."""
    return NoReceipt(f"backup {backup_id} is not committed after {timeout:g} s; it waits")


class _Waiters:
    """The waiters of one event loop, and the task that polls for their answers."""

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[Answer]]] = {}
        self._looking: asyncio.Task[None] | None = None

    def expect(self, backup_id: str) -> asyncio.Future[Answer]:
        """A future for the answer of a backup."""
        future = asyncio.get_running_loop().create_future()
        self._futures.setdefault(backup_id, []).append(future)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._ended)
        return future

    async def _look(self) -> None:
        client = open_asyncio_client(get_settings())
        answered_at = time.monotonic()
        try:
            while waited_for := self._waited_for():
                try:
                    answers = await _read(client, waited_for)
                except redis.RedisError as error:
                    passes = is_outage(error) and not isinstance(error, _REFUSED)
                    if not passes or time.monotonic() - answered_at > _OUTAGE_S:
                        raise explain(error) from error
                    answers = []
                else:
                    answered_at = time.monotonic()
                for answer in answers:
                    for future in self._futures.pop(answer.backup_id):
                        if not future.done():
                            future.set_result(answer)
                await asyncio.sleep(max(_POLL_S, len(waited_for) / _MOST_PER_S))
        finally:
            await client.aclose()

    def _waited_for(self) -> list[str]:
        for backup_id, futures in list(self._futures.items()):
            # A waiter that timed out or was cancelled is done.
            if all(future.done() for future in futures):
                del self._futures[backup_id]
        return list(self._futures)

    def _ended(self, looking: asyncio.Task[None]) -> None:
        """Pass the polling task's error to all waiters; restart it for waiters that came at its end."""
        self._looking = None
        error = asyncio.CancelledError() if looking.cancelled() else looking.exception()
        waiting = [future for futures in self._futures.values() for future in futures]
        if error is None:
            if waiting:
                self._looking = asyncio.create_task(self._look())
                self._looking.add_done_callback(self._ended)
            return
        self._futures.clear()
        for future in waiting:
            if future.done():
                continue
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif isinstance(error, ConfkeepError):
                # One instance each: raising an error extends its traceback.
                future.set_exception(type(error)(*error.args))
            else:
                future.set_exception(error)


async def _read(client: redis.asyncio.Redis, backup_ids: Sequence[str]) -> list[Answer]:
    answers: list[Answer] = []
    for start in range(0, len(backup_ids), CHUNK):
        chunk = backup_ids[start : start + CHUNK]
        records: list[Any] = await client.mget([keys.result(each) for each in chunk])
        answers += of_records(chunk, records)
    return answers


_waiters: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiters] = WeakKeyDictionary()
