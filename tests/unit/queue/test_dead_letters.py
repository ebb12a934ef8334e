"""Dead letters: kept whole, put back under their own id, or gone for good."""

from __future__ import annotations

import pytest
import redis

from tests.unit.queue.test_inbox import TENANT, all_keys, batch, submission
from worker import acceptance, dead_letters, inbox, keys, receipts, totals
from worker.errors import InvalidId, PoisonedBackup, StagedBytesDamaged
from worker.inbox import Waiting
from worker.receipts import Outcome
from worker.settings import Settings

ERROR = StagedBytesDamaged("the staged bytes have another SHA-256")


@pytest.fixture
def dead(client: redis.Redis, settings: Settings) -> Waiting:
    acceptance.accept(client, settings, [submission(1)])
    [waiting] = batch(client)
    dead_letters.bury(client, TENANT, waiting.entry, ERROR)
    outcome = Outcome(waiting.entry.backup_id, waiting.entry.digest(TENANT), ERROR)
    receipts.publish(client, TENANT, [outcome], 60)
    inbox.settle(client, TENANT, [waiting], keep_bytes=True)
    client.delete(keys.wake(TENANT))
    return waiting


def test_a_dead_letter_is_kept_with_its_bytes_and_reason(
    client: redis.Redis, dead: Waiting
) -> None:
    backup_id = dead.entry.backup_id
    assert all_keys(client) == {
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
    assert all_keys(client) == {keys.TOTALS, keys.result(dead.entry.backup_id)}


def test_an_unknown_id_is_an_error(client: redis.Redis, settings: Settings) -> None:
    with pytest.raises(InvalidId):
        dead_letters.retry(client, settings, submission(5).entry.backup_id)
    with pytest.raises(InvalidId):
        dead_letters.discard(client, settings, submission(5).entry.backup_id)


def test_what_was_no_entry_is_kept_and_cannot_be_retried(
    client: redis.Redis, settings: Settings
) -> None:
    client.xadd(keys.inbox(TENANT), {"entry": b"{nonsense"})
    client.zadd(keys.WAITING, {TENANT: 1})
    [found] = inbox.read_batch(client, TENANT, max_backups=9, max_bytes=9).unreadable
    dead_letters.bury_unreadable(client, TENANT, found)
    assert all_keys(client) == {keys.DEAD, keys.TOTALS}
    assert totals.read_totals(client).dead == 1
    [letter] = dead_letters.list_dead_letters(client)
    assert letter.entry == "{nonsense"
    with pytest.raises(PoisonedBackup):
        dead_letters.retry(client, settings, letter.backup_id)
    dead_letters.discard(client, settings, letter.backup_id)
    assert all_keys(client) == {keys.TOTALS}
