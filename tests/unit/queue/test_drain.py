"""A turn: it reads as often as there are batches, and its last look sees what came meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable, StoreUnavailable
from confkeep.queue import acceptance, wakeups
from confkeep.settings import Settings
from tests.judge import assert_all_readable
from tests.servers import names_of
from tests.unit.queue.test_inbox import TENANT, submission
from worker.engine import drain
from worker.queue import backoff
from worker.queue.inbox import Batch, Inbox


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"batch_max_backups": 2})


def test_an_inbox_that_was_emptied_is_not_read_again(
    client: redis.Redis, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acceptance.accept(client, small, [submission(number) for number in range(3)])
    reads: list[int] = []
    read_batch = Inbox.read_batch

    def counted(box: Inbox) -> Batch:
        batch = read_batch(box)
        reads.append(len(batch.entries))
        return batch

    monkeypatch.setattr(Inbox, "read_batch", counted)
    turn = drain.drain_inbox(Inbox(client, small, TENANT))
    assert (turn.committed, turn.left) == (3, 0)
    assert reads == [2, 1]
    kept = {keys.result(submission(number).entry.backup_id) for number in range(3)}
    assert names_of(client) == {
        *kept,
        keys.TOTALS,
        keys.RECENT,
    }
    assert_all_readable(small.git_store_path)


def test_what_comes_after_the_last_batch_is_left_and_not_forgotten(
    client: redis.Redis, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acceptance.accept(client, small, [submission(1)])
    clear = wakeups.clear

    def late(*args: Any) -> None:
        [answer] = acceptance.accept(client, small, [submission(2)])
        assert answer.wake_ms is None, "the producer relies on the turn"
        clear(*args)

    monkeypatch.setattr(wakeups, "clear", late)
    turn = drain.drain_inbox(Inbox(client, small, TENANT))
    assert (turn.committed, turn.left) == (1, 1)


def test_a_wake_up_is_answered_when_its_time_has_come(
    client: redis.Redis, settings: Settings
) -> None:
    def due(sent_ms: int | None = None, *, retry: bool = False) -> bool:
        return drain.look(Inbox(client, settings, TENANT), sent_ms, retry=retry) is not None

    assert due()
    acceptance.accept(client, settings, [submission(1)])
    backoff.failed(Inbox(client, settings, TENANT), StoreUnavailable("no space"))
    assert (due(), due(retry=True)) == (False, True)
    client.hset(keys.backoff(TENANT), "next_ms", "1")
    assert due()
    wakeups.clear(client, TENANT)
    own_ms = wakeups.flag_by_turn(client, TENANT)
    assert own_ms is not None
    assert (due(own_ms), due(own_ms - 1), due(own_ms - 1, retry=True)) == (True, False, False)


def test_a_server_that_refuses_counts_no_attempt_though_it_cannot_be_taken_back_at_once(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    acceptance.accept(client, settings, [submission(1)])

    refuses = False
    settle, forget = Inbox.settle, Inbox.forget_attempts

    def begin(*_: Any, **__: Any) -> Any:
        nonlocal refuses
        refuses = True
        raise BrokerUnavailable("Redis refused the command (READONLY)")

    def refused(*arguments: Any) -> None:
        if refuses:
            raise BrokerUnavailable("Redis refused the command (READONLY)")
        forget(*arguments)

    monkeypatch.setattr(Inbox, "forget_attempts", refused)
    monkeypatch.setattr(Inbox, "settle", begin)
    for _ in range(30):
        refuses = False
        with pytest.raises(BrokerUnavailable):
            drain.drain_inbox(Inbox(client, settings, TENANT))
        assert client.get(keys.attempts(TENANT)) == b"1", "that of the last turn alone"
    refuses = False
    monkeypatch.setattr(Inbox, "settle", settle)
    assert drain.drain_inbox(Inbox(client, settings, TENANT)).committed == 1
    assert not client.exists(keys.DEAD)
