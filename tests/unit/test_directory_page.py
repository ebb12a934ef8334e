"""Which devices a filter of the directory lets through."""

from __future__ import annotations

import datetime as dt

import pytest

from worker.reading.answers import DeviceEntry
from worker.reading.directory_page import Filter

NOW = dt.datetime(2026, 10, 3, tzinfo=dt.UTC)


@pytest.mark.parametrize(("hours", "stale"), [(None, True), (2, True), (1, False), (0, False)])
def test_a_device_is_stale_that_was_backed_up_long_ago_or_never(
    hours: int | None, stale: bool
) -> None:
    at = None if hours is None else NOW - dt.timedelta(hours=hours)
    device = DeviceEntry(
        device_id="beef", versions=1, sha="f" * 40, message="", changed_at=NOW, last_backup_at=at
    )
    assert Filter(seen_before=NOW - dt.timedelta(hours=1)).lets_through(device) is stale
