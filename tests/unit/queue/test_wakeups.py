"""Wake-ups: outdated only when the tenant's place is at the tail already."""

from __future__ import annotations

import json
import uuid
from typing import Any

import redis

from confkeep.broker import keys
from confkeep.queue import acceptance, wakeups
from confkeep.settings import Settings
from tasks import commit
from tests.turns import TENANT, lose_wake_ups, submission
from worker.broker.gate import Gate
from worker.queue.inbox import Inbox


def is_answered(client: redis.Redis, settings: Settings, sent_ms: int | None) -> bool:
    begun = Inbox(client, settings, TENANT).begin("a turn", sent_ms)
    client.delete(keys.lock(TENANT))
    return begun.outcome == "begun"


def test_a_turns_own_wake_up_outdates_those_before_it_and_no_other(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1)])
    own_ms = Inbox(client, settings, TENANT).settle([], leave="now").at_ms
    assert not is_answered(client, settings, own_ms - 1)
    assert is_answered(client, settings, own_ms)
    assert is_answered(client, settings, None), "a person's kick is always answered"
    Inbox(client, settings, TENANT).clear_wake()
    assert is_answered(client, settings, own_ms - 1)


def test_a_later_enqueue_does_not_take_a_tenants_place_in_the_queue(
    client: redis.Redis, settings: Settings
) -> None:
    # In a queue that takes longer than the flag lives.
    client.set(keys.wake(TENANT), 5_000)
    assert is_answered(client, settings, 1_000)


def test_what_is_accepted_wakes_its_tenant_in_the_same_step(
    client: redis.Redis, settings: Settings
) -> None:
    other = str(uuid.UUID(int=9))
    sent = [submission(1), submission(2), submission(3, tenant=other)]
    answers = acceptance.accept(client, settings, sent)
    assert [answer.wake_ms is not None for answer in answers] == [True, False, True]
    judge = Gate({wakeups.COMMIT_TASK: commit.commit_inbox.run})
    for tenant, wake_ms in ((TENANT, answers[0].wake_ms), (other, answers[2].wake_ms)):
        queue = keys.queue_of(tenant, settings.shards)
        found: Any = client.lrange(queue, 0, -1)
        [raw] = found
        passed = judge.judge(raw, queue)
        assert isinstance(passed, dict)
        assert passed["headers"]["task"] == wakeups.COMMIT_TASK
        assert json.loads(passed["body"])[0] == [tenant, wake_ms]
        assert wakeups.queued(client, keys.shard_of(tenant, settings.shards), 9) == {tenant}


def test_a_backup_is_woken_by_the_first_of_its_tenant_that_is_accepted(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1)])
    client.delete(keys.wake(TENANT))
    lose_wake_ups(client)
    answers = acceptance.accept(client, settings, [submission(1), submission(2)])
    assert [answer.outcome for answer in answers] == ["waiting", "accepted"]
    assert answers[1].wake_ms is not None
    assert client.llen(keys.queue_of(TENANT, settings.shards)) == 1


def test_a_queue_of_another_type_keeps_no_backup_out(
    client: redis.Redis, settings: Settings
) -> None:
    client.set(keys.queue_of(TENANT, settings.shards), "what we never wrote")
    [answer] = acceptance.accept(client, settings, [submission(1)])
    assert answer.outcome == "accepted"
    assert client.exists(keys.wake(TENANT)), "the sweep misses its wake-up in the queue"


def test_one_sweep_claims_what_another_has_not(client: redis.Redis, settings: Settings) -> None:
    inbox = Inbox(client, settings, TENANT)
    assert inbox.claim_wake(None, 7)
    assert not inbox.claim_wake(None, 8)
    assert inbox.claim_wake(b"7", 9)
    assert client.get(keys.wake(TENANT)) == b"9"
    assert 0 < client.pttl(keys.wake(TENANT)) <= 60_000
