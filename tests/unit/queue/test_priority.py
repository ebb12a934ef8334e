"""What a person waits for overtakes other tenants' bulk, and never its own tenant's backups."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import redis

from confkeep import enqueue
from confkeep.broker import keys
from confkeep.errors import InvalidBackup
from confkeep.queue import acceptance, wakeups
from confkeep.settings import Settings
from tasks import commit
from tests.judge import backup_ids
from tests.servers import wait_for
from tests.turns import DEVICE, TENANT, submission
from worker.process.sweeper import Sweeper
from worker.queue import inboxes
from worker.queue.inbox import Inbox
from worker.store.repository.tenant_repository import repository_path


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"batch_max_backups": 2})


@pytest.fixture
def woken(
    client: redis.Redis, small: Settings, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int | None, bool]]:
    """When turns and sweeps sent a wake-up, and whether to the queue that goes first."""
    found: list[tuple[int | None, bool]] = []

    def send(
        _app: object, _settings: Settings, _tenant: str, ms: int | None = None, *, high: bool
    ) -> None:
        found.append((ms, high))

    monkeypatch.setattr(wakeups, "send", send)
    for module in (enqueue, commit):
        monkeypatch.setattr(module, "get_client", lambda _settings: client)
        monkeypatch.setattr(module, "get_settings", lambda: small)
    return found


def by_a_person(number: int) -> None:
    enqueue.enqueue_backup(TENANT, DEVICE, f"/ip {number}", None, "now", priority="high")


def flag(client: redis.Redis) -> Any:
    return client.get(keys.wake(TENANT))


def queued(client: redis.Redis) -> list[list[int]]:
    """When each wake-up was sent that waits, in the queue of bulk and in the one that goes first."""
    found: Any = [
        client.lrange(keys.queue_of(TENANT, 16, high=high), 0, -1) for high in (False, True)
    ]
    return [[json.loads(json.loads(one)["body"])[0][1] for one in queue] for queue in found]


def wait_for_the_next_ms(client: redis.Redis, at_ms: int) -> None:
    wait_for(lambda: inboxes.server_time_ms(client) > at_ms + 1, "the clock")


def test_a_priority_is_normal_or_high() -> None:
    with pytest.raises(InvalidBackup, match="normal or high"):
        enqueue.enqueue_backup(TENANT, DEVICE, "/ip", None, "m", priority="urgent")  # type: ignore[arg-type]


def test_a_persons_backup_is_woken_first_though_a_wake_up_waits(
    client: redis.Redis, small: Settings, woken: list[tuple[int | None, bool]]
) -> None:
    enqueue.enqueue_backup(TENANT, DEVICE, "/ip 1", None, "nightly")
    assert [len(queue) for queue in queued(client)] == [1, 0]
    by_a_person(2)
    by_a_person(3)
    [bulk, first] = queued(client)
    assert (len(bulk), len(first)) == (1, 1), "a burst asks once"
    client.delete(keys.queue_of(TENANT, 16, high=True))
    commit.commit_inbox(TENANT, first[0])
    assert (client.xlen(keys.inbox(TENANT)), flag(client), woken) == (0, None, [])


def test_a_flag_without_its_message_delays_no_persons_backup(
    client: redis.Redis, small: Settings, woken: list[tuple[int | None, bool]]
) -> None:
    other = str(uuid.UUID(int=2))
    enqueue.enqueue_backup(TENANT, DEVICE, "/ip 1", None, "nightly")
    by_a_person(2)
    # The broker lost it; another tenant's is there, and the tenant's own waits in the queue of bulk.
    first = keys.queue_of(TENANT, 16, high=True)
    client.delete(first)
    client.lpush(first, "1".join(wakeups.message(other)))
    by_a_person(3)
    by_a_person(4)
    found: Any = client.lrange(first, 0, -1)
    assert [TENANT.encode() in message for message in found] == [True, False]


def test_the_tenants_own_backlog_goes_first_until_the_persons_backup_is_committed(
    client: redis.Redis,
    small: Settings,
    woken: list[tuple[int | None, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [submission(number) for number in range(3)]
    acceptance.accept(client, small, before)
    by_a_person(9)
    at_ms = wakeups.high_upto(flag(client))
    assert at_ms is not None
    # Bulk of the same tenant that came later has no part in it.
    wait_for_the_next_ms(client, at_ms)
    acceptance.accept(client, small, [submission(number) for number in range(10, 14)])
    # Another tenant's waits too: each turn ends after a batch.
    monkeypatch.setattr(wakeups, "high_waits", lambda *_: True)
    sent_ms: int | None = queued(client)[1][0]
    left = []
    while client.xlen(keys.inbox(TENANT)):
        commit.commit_inbox(TENANT, sent_ms)
        left.append(client.xlen(keys.inbox(TENANT)))
        sent_ms = woken[-1][0]
    assert left == [6, 4, 2, 0]
    assert [high for _ms, high in woken] == [True, False, False]
    committed = backup_ids(repository_path(small.git_store_path, TENANT))
    assert committed[:3] == [one.entry.backup_id for one in before]
    assert len(committed) == 8


def test_a_persons_wake_up_that_met_the_held_lock_is_made_good_by_the_turn_that_held_it(
    client: redis.Redis, small: Settings, woken: list[tuple[int | None, bool]]
) -> None:
    acceptance.accept(client, small, [submission(number) for number in range(2)])
    inbox = Inbox(client, small, TENANT)
    assert inbox.begin("a turn's").outcome == "begun"
    by_a_person(9)
    commit.commit_inbox(TENANT, queued(client)[1][0])
    assert woken == [], "it was in vain"
    ended = inbox.settle([], leave="now", token="a turn's")
    assert (ended.left, ended.over, ended.high) == (3, True, True)
    # The wake-up of before would give the tenant a second place.
    bulk = queued(client)[0][0]
    wait_for_the_next_ms(client, ended.at_ms)
    assert bulk > ended.at_ms - 1 or inbox.begin("x", bulk, retry=False).outcome == "outdated"


def test_a_lost_wake_up_of_a_person_is_sent_again_to_the_queue_that_goes_first(
    client: redis.Redis, small: Settings, woken: list[tuple[int | None, bool]]
) -> None:
    by_a_person(1)
    upto_ms = wakeups.high_upto(flag(client))
    for high in (False, True):
        client.delete(keys.queue_of(TENANT, 16, high=high))
    client.set(keys.wake(TENANT), f"1h{upto_ms}")
    assert Sweeper(None, small, client, "w").sweep() == 1
    assert woken[-1][1]
    assert wakeups.high_upto(flag(client)) == upto_ms


@pytest.mark.parametrize("queue", [keys.shard_queue, keys.high_queue], ids=["bulk", "first"])
def test_turns_end_early_for_what_waits_in_their_own_shards_alone(
    client: redis.Redis, queue: Any
) -> None:
    client.lpush(queue(3), "a message")
    assert wakeups.high_waits(client, range(16)) == (queue is keys.high_queue)
    assert not wakeups.high_waits(client, range(0, 16, 2))


def test_each_process_asks_the_queues_that_go_first_before_the_others() -> None:
    from worker.process import gated_channel

    asked: list[tuple[Any, ...]] = []

    class Channel(gated_channel._Gated):
        active_queues, brpop_timeout = ("backups.shard.02",), 1

        class client:  # noqa: N801
            class connection:  # noqa: N801
                @staticmethod
                def send_command(*arguments: Any) -> None:
                    asked.append(arguments)

        class _queue_cycle:  # noqa: N801
            @staticmethod
            def consume(_number: int) -> list[str]:
                return ["backups.shard.02", "backups.shard.01.high", "backups.shard.01"]

    Channel._brpop_start(Channel)
    [(_brpop, *names, _wait)] = asked
    assert names == ["backups.shard.01.high", "backups.shard.02", "backups.shard.01"]
