"""Dead letters: kept whole, put back under their own id, or gone for good."""

from __future__ import annotations

import dataclasses
import uuid

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import InvalidId, PoisonedBackup, StagedBytesDamaged
from confkeep.queue import acceptance
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from tests.servers import names_of
from tests.turns import (
    TENANT,
    accept,
    as_dead,
    batch,
    lose_wake_ups,
    publish,
    read_batch,
    submission,
)
from worker.queue import dead_letters, totals
from worker.queue.inbox import Inbox, Waiting

ERROR = StagedBytesDamaged("the staged bytes have another SHA-256")


@pytest.fixture
def dead(client: redis.Redis, settings: Settings) -> Waiting:
    acceptance.accept(client, settings, [submission(1)])
    [waiting] = batch(client)
    dead_letters.bury(Inbox(client, settings, TENANT), waiting.entry, ERROR)
    outcome = Outcome(waiting.entry.backup_id, waiting.entry.digest(TENANT), ERROR)
    publish(client, [outcome], 60)
    Inbox(client, settings, TENANT).settle([waiting], marks=as_dead([waiting]))
    client.delete(keys.wake(TENANT))
    lose_wake_ups(client)
    return waiting


def test_a_dead_letter_is_kept_with_its_bytes_and_reason(
    client: redis.Redis, dead: Waiting
) -> None:
    backup_id = dead.entry.backup_id
    assert names_of(client) == {
        keys.DEAD,
        keys.TOTALS,
        keys.staged(TENANT, backup_id),
        keys.result(backup_id),
    }
    [letter] = dead_letters.list_dead_letters(client)
    assert (letter.tenant_id, letter.backup_id) == (TENANT, backup_id)
    assert (letter.reason, letter.kind) == (str(ERROR), "StagedBytesDamaged")
    assert dead_letters.get(client, backup_id) == letter


def test_retry_keeps_the_id_and_the_bytes(
    client: redis.Redis, settings: Settings, dead: Waiting
) -> None:
    dead_letters.retry(client, settings, dead.entry.backup_id)
    assert dead_letters.list_dead_letters(client) == []
    assert [waiting.entry for waiting in batch(client)] == [dead.entry]
    assert client.get(keys.staged(TENANT, dead.entry.backup_id)) == b"/ip"


def test_discard_leaves_nothing_but_the_result(
    client: redis.Redis, settings: Settings, dead: Waiting
) -> None:
    dead_letters.discard(client, settings, dead.entry.backup_id)
    assert names_of(client) == {keys.TOTALS, keys.result(dead.entry.backup_id)}


def test_an_unknown_id_is_an_error(client: redis.Redis, settings: Settings) -> None:
    with pytest.raises(InvalidId):
        dead_letters.retry(client, settings, submission(5).entry.backup_id)
    with pytest.raises(InvalidId):
        dead_letters.discard(client, settings, submission(5).entry.backup_id)


def test_what_was_no_entry_is_kept_and_cannot_be_retried(client: redis.Redis, inbox: Inbox) -> None:
    client.xadd(keys.inbox(TENANT), {"entry": b"{nonsense"})
    client.zadd(keys.WAITING, {TENANT: 1})
    [found] = read_batch(inbox).unreadable
    dead_letters.bury_unreadable(inbox, found)
    assert names_of(client) == {keys.DEAD, keys.TOTALS, keys.EVENTS}
    assert totals.read_totals(client).dead == 1
    [letter] = dead_letters.list_dead_letters(client)
    assert letter.entry == "{nonsense"
    with pytest.raises(PoisonedBackup):
        dead_letters.retry(client, inbox.settings, letter.backup_id)
    dead_letters.discard(client, inbox.settings, letter.backup_id)
    assert names_of(client) == {keys.TOTALS, keys.EVENTS}


def test_another_backup_under_its_id_does_not_take_its_place(
    client: redis.Redis, inbox: Inbox
) -> None:
    """Its record is forgotten after a while; it is kept until a person decides."""
    one = submission(1)
    message = '\udce9 "device_id":"x" \\"export_sha256":"y\\'
    one = dataclasses.replace(one, entry=dataclasses.replace(one.entry, message=message))
    accept(inbox, [one])
    [waiting] = inbox.peek(9)
    dead_letters.bury(inbox, waiting.entry, PoisonedBackup("broken"))
    inbox.settle([waiting], marks=as_dead([waiting]))
    client.delete(keys.result(one.entry.backup_id))
    other = str(uuid.UUID(int=9))
    for given in (submission(1, b"/other"), submission(1, tenant=other)):
        [answer] = accept(inbox, [given])
        assert answer.outcome == "conflict"
    assert dead_letters.get(client, one.entry.backup_id).tenant_id == TENANT
    assert client.get(keys.staged(TENANT, one.entry.backup_id)) == one.data
    # The very same starts anew.
    accept(inbox, [one])
    assert not client.hlen(keys.DEAD)
    assert inbox.peek(9)[-1].entry == one.entry
