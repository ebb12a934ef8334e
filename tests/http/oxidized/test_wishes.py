"""A client's wish for a capture becomes an event; nothing else that a client asks changes anything."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from confkeep.broker import keys
from confkeep.queue import events
from tests.http.oxidized.conftest import Oxidized


@pytest.mark.parametrize("name", ["r1.example.net", "r1.example.net.json", "edge/r1.example.net"])
def test_a_wish_for_a_capture_becomes_an_event(
    oxidized: Oxidized, http: httpx.Client, name: str
) -> None:
    answer = http.put(f"/node/next/{name}", json={"user": "alice", "msg": "changed from console"})
    assert (answer.status_code, answer.json()) == (200, ["ok"])
    event = _events(oxidized)[-1]
    assert event.type == "capture.requested"
    assert (event.tenant_id, event.device_id) == (oxidized.acme, oxidized.r1)
    assert event.data["user"] == "alice"
    assert event.data["message"] == "changed from console"


def test_a_wish_may_be_a_get_for_netxms(oxidized: Oxidized, http: httpx.Client) -> None:
    before = {event.id for event in _events(oxidized)}
    for _ in range(2):
        assert http.get("/node/next/r2.json").json() == ["ok"]
    new = [event for event in _events(oxidized) if event.id not in before]
    assert [event.data["device_name"] for event in new] == ["r2", "r2"]
    assert len({event.id for event in new}) == 2, "each wish is one of its own"


def _events(oxidized: Oxidized) -> list[events.Event]:
    """The stream's events, oldest first."""
    kept: Any = oxidized.client.xrange(keys.EVENTS)
    found = [events.parse(text) for _id, fields in kept for text in fields.values()]
    return [event for event in found if event is not None]


def test_a_wish_needs_a_token_that_may_hand_over(oxidized: Oxidized, http: httpx.Client) -> None:
    for method in ("GET", "PUT"):
        answer = http.request(method, "/node/next/r2", auth=("any", oxidized.reads))
        assert answer.status_code == 403


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"user": 1}', b"[" * 60_000, b"\xff"])
def test_a_wish_with_nonsense_is_refused(http: httpx.Client, body: bytes) -> None:
    assert http.put("/node/next/r2", content=body).status_code == 422


def test_a_wish_that_is_too_long_is_refused(http: httpx.Client) -> None:
    assert http.put("/node/next/r2", content=b" " * 100_000).status_code == 413


def test_only_a_wish_changes_anything(oxidized: Oxidized, http: httpx.Client) -> None:
    before = oxidized.client.xlen(keys.EVENTS)
    for path in ("/nodes.json", "/node/fetch/r2", "/reload.json?node=r2", "/nodes/stats.json"):
        assert http.get(path).status_code == 200
    assert oxidized.client.xlen(keys.EVENTS) == before
