"""What comes out of Redis: whatever the bytes are, a reader gives a value or its one declared error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from confkeep.broker import redis_values
from confkeep.broker.redis_values import Unreadable
from confkeep.errors import PoisonedBackup
from confkeep.models import Receipt
from confkeep.queue import wakeups
from confkeep.queue.entry import Entry
from tests.garbage import TEXTS
from tests.turns import submission
from worker.queue import backoff, dead_letters, sweep_report, totals
from worker.queue.dead_letters import DeadLetter

#: JSON values, with odd numbers, odd texts and nesting.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**30, 10**40)
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
_FIELDS = [*Entry.__slots__, *DeadLetter.__slots__, *Receipt.model_fields]
records = st.dictionaries(st.sampled_from([*_FIELDS, "shards", "swept_ms", "trouble"]), values)
texts = (
    st.binary(max_size=200)
    | st.sampled_from(sorted(TEXTS.values()))
    | st.builds(lambda value: json.dumps(value).encode(), values | records)
)


READERS: dict[str, tuple[Callable[[bytes], Any], tuple[type[Exception], ...]]] = {
    "json": (redis_values.json_of, (Unreadable,)),
    "object": (redis_values.object_of, (Unreadable,)),
    "number": (redis_values.number_of, ()),
    "tenant": (redis_values.tenant_of, ()),
    "shown": (redis_values.shown, ()),
    "entry": (Entry.from_json, (PoisonedBackup,)),
    "recent": (totals.receipt_in, (ValueError,)),
    "report": (lambda text: sweep_report.parse(b"w", text), ()),
    "letter": (lambda text: dead_letters._parse(b"x", text), ()),
    "flag": (wakeups.sent_at, ()),
    "wait": (
        lambda text: backoff.parse(dict.fromkeys([b"next_ms", b"tries", b"reason"], text)),
        (),
    ),
    "totals": (
        lambda text: totals.parse({text: b"1", b"committed": text, b"latency_ms:10": text}),
        (),
    ),
}


@settings(deadline=None)
@given(text=texts)
@example(text=b"[" * 100_000)
@example(text=b'{"a":' * 100_000)
@example(text=b'"' + b'\\"' * 100_000)
@example(text=b"9" * 10_000)
@example(text=b"-0")
@example(text=b"")
def test_bytes_give_a_value_or_the_declared_error(text: bytes) -> None:
    for read, errors in READERS.values():
        with contextlib.suppress(*errors):
            read(text)


@settings(deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(Entry.__slots__), values, max_size=3),
    later=st.dictionaries(st.text(min_size=1).filter(lambda name: name not in _FIELDS), values),
)
def test_an_entry_that_is_read_can_be_worked_with(
    changes: dict[str, Any], later: dict[str, Any]
) -> None:
    good = json.loads(submission(1).entry.to_json())
    try:
        entry = Entry.from_json(json.dumps({**good, **changes, **later}))
    except PoisonedBackup:
        return
    entry.digest("tenant").encode()
    assert Entry.from_json(entry.to_json()) == entry
    entry.message.encode("utf-8", "surrogateescape")


def test_fields_of_a_later_release_are_left_out() -> None:
    entry = submission(1).entry
    text = json.dumps({**json.loads(entry.to_json()), "compressed": {"by": "zstd"}})
    assert Entry.from_json(text) == entry


def test_texts_at_the_limits_are_read() -> None:
    assert redis_values.json_of(b"[" * 16 + b"]" * 16) is not None
    assert redis_values.json_of(json.dumps({"message": "[" * 1000}))["message"] == "[" * 1000
    assert redis_values.json_of(b"[9223372036854775807, -9223372036854775808]") == [
        2**63 - 1,
        -(2**63),
    ]
    for text in (b"[" * 17 + b"]" * 17, b"9223372036854775808", b"1e400", b"NaN", b"-Infinity"):
        with pytest.raises(Unreadable):
            redis_values.json_of(text)
