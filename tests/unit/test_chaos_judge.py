"""The chaos run's judge can fail: each broken promise is a complaint."""

from __future__ import annotations

import dataclasses

import pytest
import redis

from confkeep.settings import load_settings
from tests.chaos.history import Commit, History, Record, complaints
from tests.chaos.readers import Readers

IDS = [f"id{number}" for number in range(10)]
COMMITS = [Commit(f"sha-{i}", i) for i in IDS]
RIGHT = History(
    tenant_id="t",
    accepted=[i for i in IDS if i != "id4"],
    sent={*IDS, "unknown"},
    commits=COMMITS,
    records={i: Record("SUCCESS", f"sha-{i}") for i in IDS},
)


def swapped(one: int, other: int) -> list[Commit]:
    commits = list(COMMITS)
    commits[one], commits[other] = commits[other], commits[one]
    return commits


def test_a_right_history_is_right() -> None:
    assert complaints(RIGHT) == []
    # What was sent with an unknown outcome may be there or not, and anywhere.
    without = [commit for commit in COMMITS if commit.backup_id != "id4"]
    assert complaints(dataclasses.replace(RIGHT, commits=without)) == []
    assert complaints(dataclasses.replace(RIGHT, commits=[*without, COMMITS[4]])) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"commits": COMMITS[:3] + COMMITS[4:]}, "lost: id3"),
        ({"commits": COMMITS[:-1]}, "lost: id9"),
        ({"commits": [*COMMITS, COMMITS[3]]}, "committed twice: id3"),
        ({"commits": [*COMMITS, COMMITS[4]]}, "committed twice: id4"),
        ({"commits": swapped(2, 3)}, "out of order: id3, id2"),
        ({"commits": swapped(0, 9)}, "out of order"),
        ({"sent": set(IDS[1:])}, "never sent: id0"),
        ({"records": {**RIGHT.records, "id7": Record("SUCCESS", "sha-id6")}}, "wrong receipt: id7"),
        ({"records": {**RIGHT.records, "id7": Record("PENDING", None)}}, "wrong receipt: id7"),
        ({"records": {i: RIGHT.records[i] for i in IDS[1:]}}, "wrong receipt: id0"),
        ({"commits": COMMITS[:-1]}, "record without commit: id9 (SUCCESS)"),
    ],
)
def test_each_broken_promise_is_a_complaint(change: dict[str, object], complaint: str) -> None:
    found = complaints(dataclasses.replace(RIGHT, **change))  # type: ignore[arg-type]
    assert any(complaint in one for one in found), found


def test_what_was_sent_again_later_may_stand_anywhere_and_must_be_there() -> None:
    late = dataclasses.replace(RIGHT, late={"id3"})
    moved = [*COMMITS[:3], *COMMITS[4:8], COMMITS[3], *COMMITS[8:]]
    assert complaints(dataclasses.replace(late, commits=moved)) == []
    assert complaints(dataclasses.replace(RIGHT, commits=moved)) != []
    [lost] = complaints(dataclasses.replace(late, commits=COMMITS[:3] + COMMITS[4:]))[:1]
    assert "lost: id3" in lost
    both_moved = [COMMITS[1], COMMITS[0], *moved[2:]]
    assert "out of order: id1, id0" in complaints(dataclasses.replace(late, commits=both_moved))[0]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (["a", "b", "c"], None),
        (["a", "c"], "missing 1: b"),
        ([], "missing 3: a, b, c"),
        (["a", "c", "b"], "out of order or not in git: c, b"),
        (["a", "b", "c", "d"], "out of order or not in git: d"),
    ],
)
def test_a_reader_of_events_is_judged_by_git(told: list[str], complaint: str | None) -> None:
    readers = Readers(redis.Redis(), load_settings(), ["t"], "seed")
    for reader in readers.readers:
        reader.told["t"] = dict.fromkeys(["a", "b", "c"])
    readers.readers[1].told["t"] = dict.fromkeys(told)
    found = readers.complaints({"t": ["a", "b", "c"]})
    assert [one.partition("tenant t: ")[2] for one in found] == ([complaint] if complaint else [])
    readers.readers[0].wrong_ids.append("x")
    assert len(readers.complaints({})) == 1
