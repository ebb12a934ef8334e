"""How far a hook has come: what a failure, a success and the end of patience leave."""

from __future__ import annotations

import json

import pytest

from tests.garbage import TEXTS
from worker.hooks import progress as module
from worker.hooks.progress import GIVEN_UP, Delivery, Progress

BEGUN = Progress("cursor")
HOUR_MS = 3_600_000


def test_waits_grow_to_a_bound_and_end_after_three_days() -> None:
    now_ms = began_ms = 1_000_000
    progress = BEGUN
    waits_s: list[float] = []
    while not progress.off and len(waits_s) < 10_000:
        progress = progress.failed("it answered 500", now_ms)
        waits_s.append((progress.next_ms - now_ms) / 1000)
        now_ms = max(progress.next_ms, now_ms)
    *waits_s, _ = waits_s
    assert 0.8 <= waits_s[0] <= 1.2
    assert all(wait_s <= module.MOST_WAIT_S * 1.2 for wait_s in waits_s)
    assert sum(waits_s[:12]) < 3_600, "an outage of an hour is over soon after it"
    assert 72 * HOUR_MS <= now_ms - began_ms < 73 * HOUR_MS
    assert progress.off_reason == GIVEN_UP
    assert progress.cursor == "cursor"


def test_one_success_forgets_the_failures_and_is_remembered() -> None:
    failed = BEGUN.failed("it answered 500", 1).failed("it answered 500", 2_000)
    assert (failed.tries, failed.failing_since_ms) == (2, 1)
    done = failed.succeeded("id", 3_000)
    assert (done.tries, done.failing_since_ms, done.next_ms, done.problem) == (0, 0, 0, "")
    assert (done.done, done.delivered, done.delivered_ms) == (["id"], 1, 3_000)
    assert done.moved("next") == Progress("next", delivered=1, delivered_ms=3_000)


def test_a_receiver_may_ask_for_a_longer_wait_within_bounds() -> None:
    assert BEGUN.failed("it answered 503", 0, asked_s=60).next_ms == 60_000
    assert BEGUN.failed("it answered 503", 0, asked_s=999_999).next_ms == HOUR_MS


def test_a_hook_that_is_on_again_begins_where_it_was() -> None:
    off = BEGUN.succeeded("id", 1).failed("p", 1).ended(GIVEN_UP, 5)
    assert off.off
    on = off.on_again()
    assert not on.off
    assert (on.cursor, on.done, on.next_ms, on.resumed) == ("cursor", ["id"], 0, 1)


def test_what_is_kept_is_read_back() -> None:
    kept = BEGUN.succeeded("id", 1).failed("problem", 2)
    assert Progress.parse(kept.to_json().encode()) == kept
    delivery = Delivery("hook", 1, "id", "backup.committed", 1, 204, "", 12)
    assert Delivery.parse(delivery.to_json().encode()) == delivery
    later = json.dumps({**json.loads(kept.to_json()), "of_a_later_release": 1})
    assert Progress.parse(later.encode()) == kept


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_garbage_is_nothing(text: bytes) -> None:
    assert Progress.parse(text) is None
    assert Delivery.parse(text) is None
