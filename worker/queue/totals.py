"""The deployment's counters and its last commits, as Redis keeps them.

The scripts that accept, settle and back off count, in the step that they take anyway. Counters only grow;
an empty server starts them at zero.

Each function that asks Redis raises BrokerUnavailable if it does not answer.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import redis

from confkeep.broker import keys, redis_values
from confkeep.broker.connections import broker_errors
from confkeep.models import Receipt
from worker.observe.metrics import LATENCY_BOUNDS_MS

#: The same, as `confkeep/broker/lua/settle.lua` wants them.
BOUNDS_JSON: Final = json.dumps(LATENCY_BOUNDS_MS)
#: Last commits that are kept.
RECENT_ROWS: Final = 20

_SUM: Final = "latency_ms"
_BUCKET: Final = "latency_ms:"
_BUCKET_NAME: Final = re.compile(r"latency_ms:(?:[0-9]{1,15}|inf)")


@dataclass(frozen=True, slots=True)
class Mark:
    """How a settled backup is counted."""

    #: Names of counters.
    words: tuple[str, ...] = ()
    #: What stands of it among the last commits.
    recent: Receipt | None = None


UNCOUNTED: Final = Mark()
DEAD: Final = Mark(("dead",))


def mark_of(receipt: Receipt) -> Mark:
    """How a committed backup is counted."""
    unchanged = ("unchanged",) if receipt.unchanged else ()
    suspect = ("suspect",) if receipt.suspect is not None else ()
    return Mark(("committed", *unchanged, *suspect), receipt)


@dataclass(frozen=True, slots=True)
class Latency:
    """The time from enqueue to receipt, of all committed backups."""

    sum_s: float
    count: int
    #: Upper bound in seconds (the last one infinite) -> backups that took no longer.
    buckets: dict[float, int]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a deployment did since its server was empty."""

    #: Accepted backups, and dead letters that were put back.
    enqueued: int
    committed: int
    #: Of the committed ones, those that changed nothing.
    unchanged: int
    #: Of the committed ones, those that look bad or failed.
    suspect: int
    #: Backups that became dead letters.
    dead: int
    #: Turns that ended with a fault of the system; each is tried again.
    retried: int
    #: Messages that no worker acts on; no backups.
    refused: int
    #: Bytes of the committed backups, as they were handed over.
    committed_bytes: int
    latency: Latency


def read_totals(client: redis.Redis) -> Totals:
    """The counters."""
    found = redis_values.answer(client.hgetall, keys.TOTALS)
    return parse(found or {})


def parse(fields: Mapping[bytes, bytes]) -> Totals:
    """The hash's fields as a value; 0 for a counter that is missing or no number."""
    # A later release may have buckets of other bounds.
    names = {
        redis_values.name_of(name): redis_values.number_of(value) for name, value in fields.items()
    }
    numbers = {name: max(0, number) for name, number in names.items()}
    per_bucket: dict[float, int] = {}
    for name, number in numbers.items():
        if _BUCKET_NAME.fullmatch(name):
            per_bucket[float(name.removeprefix(_BUCKET))] = number
    buckets = {
        bound_ms / 1000: sum(n for most_ms, n in per_bucket.items() if most_ms <= bound_ms)
        for bound_ms in (*LATENCY_BOUNDS_MS, float("inf"))
    }
    return Totals(
        **{name: numbers.get(name, 0) for name in Totals.__slots__ if name != "latency"},
        latency=Latency(numbers.get(_SUM, 0) / 1000, buckets[float("inf")], buckets),
    )


def is_readable(name: bytes, value: bytes) -> bool:
    """Whether a field of the hash is a counter."""
    text = redis_values.name_of(name)
    return re.fullmatch("[a-z_:0-9]{1,60}", text) is not None and redis_values.is_number(value)


def read_recent(client: redis.Redis) -> list[Receipt]:
    """The receipts of the deployment's last commits, newest first, at most `RECENT_ROWS`."""
    commits: dict[str, Receipt] = {}
    for row in _rows(client):
        # What another release or somebody else wrote is left out: the list is only for show.
        with contextlib.suppress(ValueError):
            receipt = receipt_in(row)
            # A settling that was interrupted and done again may have added a row twice.
            commits.setdefault(receipt.backup_id, receipt)
    return list(commits.values())


def receipt_in(row: bytes) -> Receipt:
    """The receipt in a row among the last commits.

    Raises:
        ValueError: written by something else.
    """
    # Earlier releases kept no `export_changed`, which no list shows.
    receipt = Receipt.of({"export_changed": True} | redis_values.object_of(row))
    at = receipt.committed_at
    if at.utcoffset() is None or not 1 < at.year < dt.MAXYEAR:
        raise ValueError("committed_at")
    return receipt


def forget(client: redis.Redis, ids: Collection[bytes]) -> int:
    """Delete the rows among the last commits that name all these ids, of a tenant, or of one and its device.

    Returns:
        How many there were.

    Raises:
        BrokerUnavailable: Redis did not answer; call again.
    """
    own = [row for row in _rows(client) if all(id_ in row for id_ in ids)]
    with broker_errors():
        for row in own:
            client.lrem(keys.RECENT, 0, row)  # type: ignore[arg-type]
    return len(own)


def _rows(client: redis.Redis) -> list[bytes]:
    rows = redis_values.answer(client.lrange, keys.RECENT, 0, RECENT_ROWS - 1)
    return list(rows or [])
