"""How nodes are named and shown."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.http.oxidized.answers import lines
from worker.http.oxidized.nodes import Node, matching, without_json
from worker.reading.answers import DeviceEntry, TenantEntry

NOW = dt.datetime(2026, 11, 25, 9, 46, 42, 7, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def node(name: str | None, group: str | None = None, *, seen: dt.datetime | None = NOW) -> Node:
    device = DeviceEntry(
        device_id=str(uuid.uuid4()),
        name=name,
        group=group,
        versions=1,
        sha="0" * 40,
        message="",
        changed_at=NOW,
        last_backup_at=seen,
    )
    return Node(TenantEntry(tenant_id=str(uuid.uuid4()), name="acme"), device, group)


def test_a_node_that_was_never_polled_says_so() -> None:
    shown = node("r2", seen=None).listed()
    assert (shown["last"], shown["status"], shown["time"]) == (None, "never", "never")


def test_moments_are_in_utc() -> None:
    assert node("r2").listed()["time"] == "2026-11-25 07:46:42 UTC"


def test_a_node_without_a_name_is_called_by_its_id() -> None:
    nameless = node(None)
    assert nameless.shown()["name"] == nameless.device.device_id
    assert matching([nameless], nameless.device.device_id) == [nameless]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("r1.json", "r1"),
        ("r1.example.json.json", "r1.example.json"),
        ("r1.jsonx", "r1.jsonx"),
        ("json", "json"),
        ("r1.example.net", "r1.example.net"),
    ],
)
def test_only_json_at_the_end_is_cut(given: str, name: str) -> None:
    assert without_json(given) == name


def test_a_full_name_goes_before_a_name() -> None:
    plain, grouped, slashed = node("x"), node("x", "a"), node("a/x", "b")
    nodes = [slashed, grouped, plain]
    assert matching(nodes, "x") == [plain]
    assert matching(nodes, "a/x") == [grouped]
    assert matching(nodes, "b/a/x") == [slashed]
    assert matching([slashed], "a/x") == [slashed]
    assert matching(nodes, "x", "a") == [grouped]


def test_upper_and_lower_case_count_where_both_are_there() -> None:
    upper, lower = node("R1"), node("r1")
    assert matching([upper, lower], "r1") == [lower]
    assert matching([upper], "r1") == [upper]


@given(st.text(alphabet="a\n\r\x0b\x0c\x1c\u2028", max_size=20))
def test_lines_end_where_ruby_ends_them(text: str) -> None:
    found = lines(text)
    assert "".join(found) == text
    assert all(line.endswith("\n") for line in found[:-1])
    assert all("\n" not in line[:-1] for line in found)
    assert "" not in found
