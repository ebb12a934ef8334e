"""What a worker's sweep reports of itself in `confkeep:workers`, written and read."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final

from confkeep.broker import redis_values

#: Most shards that there can be, and most milliseconds that fit the server's clock.
_MOST_SHARDS: Final = 1024
_MOST_MS: Final = 2**53
#: Most milliseconds between two sweeps that the settings allow.
_MOST_INTERVAL_MS: Final = 60_000
#: A worker counts as silent after so many seconds without a sweep, and not before so many of its intervals.
_SILENT_S: Final = 15.0
_SILENT_SWEEPS: Final = 3


@dataclass(frozen=True, slots=True)
class SweepReport:
    """One worker's report."""

    name: str
    shards: list[int]
    swept_ms: int
    #: The last unforeseen error of one of its threads; None if there was none.
    trouble: str | None = None
    #: The id of the store that it commits to; None: it does not know it yet.
    store: str | None = None
    #: Between two of its sweeps; 0 in the report of an earlier release, which does not tell it.
    interval_ms: int = 0

    @property
    def silent_after_s(self) -> float:
        """How old its last sweep may be before it counts as silent."""
        return max(_SILENT_S, _SILENT_SWEEPS * self.interval_ms / 1000)

    def to_json(self) -> str:
        """The text that stands under the worker's name; ASCII."""
        values = dataclasses.asdict(self)
        del values["name"]
        return json.dumps(values)


def parse(name: bytes, text: bytes) -> SweepReport | None:
    """A report; None if no worker wrote it."""
    try:
        values = {"trouble": None, "store": None, **redis_values.object_of(text)}
        report = redis_values.record_of(SweepReport, {**values, "name": name.decode()})
    except ValueError:
        return None
    if not all(type(shard) is int and 0 <= shard < _MOST_SHARDS for shard in report.shards):
        return None
    in_bounds = 0 <= report.swept_ms < _MOST_MS and 0 <= report.interval_ms <= _MOST_INTERVAL_MS
    return report if in_bounds else None
