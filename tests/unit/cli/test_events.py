"""`confkeep events`."""

from __future__ import annotations

from typing import Any

import pytest

from confkeep.errors import BrokerUnavailable
from confkeep.queue import events as told
from tests.unit.cli.conftest import TENANT, Confkeep
from worker.cli import events
from worker.engine.events import Page


def test_a_follower_waits_for_a_server_that_is_away(
    confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = told.new(told.STALLED, TENANT, data={"reason": "a full disk"}, about=("x",))
    answers: list[Any] = [
        BrokerUnavailable("away"),
        BrokerUnavailable("away"),
        Page([stalled], "2"),
    ]
    asked: list[str | None] = []

    def read(_client: Any, _settings: Any, _store: Any, cursor: str | None, **_: Any) -> Page:
        asked.append(cursor)
        if not answers:
            raise KeyboardInterrupt
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    monkeypatch.setattr(events, "_start", lambda *_, **__: "1")
    monkeypatch.setattr(events, "_PAUSE_S", 0)
    monkeypatch.setattr(events, "read_events", read)
    done = confkeep("events", "--follow")
    assert done.exit_code == 130
    assert asked == ["1", "1", "1", "2"]
    assert "a full disk" in done.stdout
    assert done.stderr.count("away; waiting for it") == 1
