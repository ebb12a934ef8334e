"""Receipts: Celery's own client reads what we store, success and failure alike."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.queue import acceptance, receipts
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from tests.turns import TENANT, accept, batch, publish, submission
from worker.process.local import EmbeddedServer
from worker.queue.inbox import Inbox


@pytest.fixture
def app(real_server: EmbeddedServer) -> Iterator[Celery]:
    url = f"redis+socket://{real_server.socket}?virtual_host=0"
    with Celery("reader", broker=url, backend=url, set_as_current=False) as app:
        yield app


pytestmark = pytest.mark.parametrize("client", ["real"], indirect=True)


def test_a_waiter_gets_the_receipt_and_nothing_before_it(
    client: redis.Redis, inbox: Inbox, app: Celery
) -> None:
    one = submission(1)
    accept(inbox, [one])
    result = AsyncResult(one.entry.backup_id, app=app)
    assert result.state == "PENDING"
    assert not result.ready()
    publish(client, [Outcome(one.entry.backup_id, "digest", {"sha": "1" * 40})], 60)
    assert result.get(timeout=10) == {"sha": "1" * 40}
    assert result.successful()


def test_a_record_costs_little_more_than_its_receipt_and_answers_all_that_celery_asks(
    client: redis.Redis, app: Celery
) -> None:
    value: dict[str, object] = {"sha": "1" * 40, "suspect": None, "warnings": []}
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    publish(client, [Outcome(backup_id := str(uuid.uuid4()), "d" * 64, value)], 60)
    record = client.get(keys.result(backup_id))
    assert isinstance(record, bytes)
    assert len(record) - len(json.dumps(value, separators=(",", ":"))) < 200
    result = AsyncResult(backup_id, app=app)
    assert list(result.collect()) == [(result, value)]
    assert (result.state, result.traceback) == ("SUCCESS", None)
    assert before <= result.date_done <= dt.datetime.now(dt.UTC)


def test_a_dead_letters_waiter_gets_the_error_as_it_was(
    client: redis.Redis, inbox: Inbox, app: Celery
) -> None:
    one = submission(1)
    accept(inbox, [one])
    error = StagedBytesMissing("the staged bytes are gone")
    publish(client, [Outcome(one.entry.backup_id, "digest", error)], 60)
    with pytest.raises(StagedBytesMissing, match="the staged bytes are gone"):
        AsyncResult(one.entry.backup_id, app=app).get(timeout=10)


def test_every_further_caller_gets_the_receipt_under_its_own_id(
    client: redis.Redis, settings: Settings, app: Celery
) -> None:
    early, late, latest = (str(uuid.uuid4()) for _ in range(3))
    acceptance.accept(client, settings, [submission(1, reply_to=early)])
    [answer] = acceptance.accept(client, settings, [submission(1, reply_to=late)])
    assert answer.outcome == "waiting"
    backup_id = submission(1).entry.backup_id
    outcome = Outcome(backup_id, "digest", {"sha": "2" * 40})
    inbox = Inbox(client, settings.model_copy(update={"receipt_ttl_s": 60}), TENANT)
    inbox.settle(batch(client), outcomes={backup_id: outcome})
    receipts.copy(client, backup_id, latest, 60)
    for result_id in (backup_id, early, late, latest):
        result = AsyncResult(result_id, app=app)
        assert result.get(timeout=10) == {"sha": "2" * 40}
        assert 0 < client.ttl(keys.result(result_id)) <= 60
    # Only the backup's own record says what was accepted: another's id is free to be used.
    assert b'"accepted"' in client.get(keys.result(backup_id))  # type: ignore[operator]
    assert b'"accepted"' not in client.get(keys.result(early))  # type: ignore[operator]
    assert not client.exists(keys.replies(TENANT))


def test_a_waiting_result_says_why_it_waits_and_an_ended_one_stays(
    client: redis.Redis, inbox: Inbox, app: Celery
) -> None:
    accept(inbox, [submission(1), submission(2)])
    ended, waits = submission(1).entry.backup_id, submission(2).entry.backup_id
    publish(client, [Outcome(ended, "digest", {"sha": "3" * 40})], 60)
    for reason in ("no space", "still no space"):
        receipts.show_retrying(client, [ended, waits], StoreUnavailable(reason), 7_000)
        result = AsyncResult(waits, app=app)
        assert result.state == "RETRY"
        assert str(result.info) == reason
        assert isinstance(result.info, StoreUnavailable)
    assert AsyncResult(ended, app=app).get(timeout=10) == {"sha": "3" * 40}
    assert client.ttl(keys.result(waits)) > 6_000, "its life begins anew"
    # It is the same record still: it knows what was accepted, and the receipt replaces it.
    assert accept(inbox, [submission(2)])[0].outcome == "waiting"
    publish(client, [Outcome(waits, "digest", {"sha": "4" * 40})], 60)
    assert AsyncResult(waits, app=app).get(timeout=10) == {"sha": "4" * 40}
