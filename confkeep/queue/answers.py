"""Read what became of backups: the receipt or the error in each record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import redis
from celery import states

from confkeep.broker import keys, redis_values
from confkeep.errors import ConfkeepError
from confkeep.models import Receipt
from confkeep.queue import receipts

#: Most records read in one command, which blocks the server for everybody else.
CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """How one backup ended."""

    backup_id: str
    #: None if it was not committed; `error` says why.
    receipt: Receipt | None
    error: ConfkeepError | None = None


def read(client: redis.Redis, backup_ids: Sequence[str]) -> list[Answer]:
    """The answers of the backups that have ended.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: list[Answer] = []
    for start in range(0, len(backup_ids), CHUNK):
        chunk = backup_ids[start : start + CHUNK]
        names = [keys.result(backup_id) for backup_id in chunk]
        found += of_records(chunk, redis_values.answer(client.mget, names))
    return found


def of_records(backup_ids: Sequence[str], records: Sequence[bytes | None]) -> list[Answer]:
    """The answers in records as Redis returned them; waiting backups have none."""
    found = (
        None if record is None else _of(backup_id, record)
        for backup_id, record in zip(backup_ids, records, strict=True)
    )
    return [answer for answer in found if answer is not None]


def _of(backup_id: str, record: bytes) -> Answer | None:
    try:
        meta = redis_values.object_of(record, most_bytes=receipts.MOST_RECORD_BYTES)
        if meta.get("status") not in states.READY_STATES:
            return None
        if meta.get("status") != states.SUCCESS:
            return Answer(backup_id, None, receipts.error_of(meta.get("result")))
        return Answer(backup_id, Receipt.of(meta.get("result")))
    except (redis_values.Unreadable, ValueError):
        return Answer(backup_id, None, receipts.garbled(backup_id))
