"""Tidying: only bytes that nobody refers to go, and only when they are old."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.queue import acceptance, receipts
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import VolumeStaging
from confkeep.settings import Settings, load_settings
from tests.turns import TENANT, accept, as_dead, read_batch, submission, tidy_all
from worker.queue import dead_letters, oddities, tidy
from worker.queue.inbox import Inbox

pytestmark = pytest.mark.parametrize("client", ["real"], indirect=True)


def test_only_orphans_go(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1)])
    kept, orphan = submission(1).entry.backup_id, str(uuid.uuid4())
    client.set(keys.staged(TENANT, orphan), b"x")
    assert tidy_all(client, inbox.settings) == 0, "young ones stay"
    assert tidy_all(client, inbox.settings, abandoned_s=0) == 1
    assert client.exists(keys.staged(TENANT, kept))
    assert not client.exists(keys.staged(TENANT, orphan))


def test_handed_over_bytes_get_a_life(client: redis.Redis, settings: Settings) -> None:
    name = keys.handoff(TENANT, str(uuid.uuid4()))
    client.set(name, b"x")
    tidy_all(client, settings)
    assert 0 < client.ttl(name) <= tidy.ABANDONED_S


def test_files_of_the_volume(client: redis.Redis, inbox: Inbox) -> None:
    volume = VolumeStaging(inbox.settings.staging_path)
    entries = [submission(n).entry for n in range(3)]
    for entry in entries:
        volume.stage(TENANT, entry, Contents(b"/ip", None))
    accept(inbox, [submission(0)])
    handoff = inbox.settings.staging_path / "handoff" / TENANT / str(uuid.uuid4())
    handoff.parent.mkdir(parents=True)
    handoff.write_bytes(b"x")
    for file in inbox.settings.staging_path.rglob("*"):
        if entries[2].backup_id not in file.name:
            os.utime(file, (1, 1))
    client.hset(oddities.ARRIVING, TENANT, 3)
    assert tidy_all(client, inbox.settings) == 0, "nobody knows what an earlier release's refer to"
    client.delete(oddities.ARRIVING)
    assert tidy_all(client, inbox.settings) == 2
    left = volume.read(TENANT, entries)
    there = Contents(b"/ip", None)
    assert left == [there, None, there], "waiting ones and young ones stay"
    assert not handoff.exists()


def test_many_receipts_are_looked_through_in_steps(client: redis.Redis, settings: Settings) -> None:
    client.mset({keys.result(str(number)): b"" for number in range(5_000)})
    orphan = keys.staged(TENANT, str(uuid.uuid4()))
    client.set(orphan, b"x")
    deleted = list(tidy.steps(client, settings, abandoned_s=0))
    assert len(deleted) >= 4
    assert sum(deleted) == 1
    assert not client.exists(orphan)


def test_one_worker_an_hour(client: redis.Redis) -> None:
    assert tidy.is_due(client)
    assert not tidy.is_due(client)
    assert 0 < client.ttl(keys.TIDY) <= tidy.INTERVAL_S


def test_queues_of_shards_that_are_gone_are_deleted(
    client: redis.Redis, settings: Settings
) -> None:
    for shard in (3, 15, 16, 40):
        client.lpush(keys.shard_queue(shard), b"a wake-up")
    assert tidy.drop_foreign_queues(client, settings) == 2
    assert client.exists(keys.shard_queue(3), keys.shard_queue(15)) == 2


def test_the_bytes_of_an_unsigned_entry_stay_until_a_person_decides(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1)])
    backup_id = submission(1).entry.backup_id
    wants_signatures = load_settings(signing_key="k" * 32)
    [found] = read_batch(Inbox(client, wants_signatures, TENANT)).unreadable
    dead_letters.bury_unreadable(Inbox(client, settings, TENANT), found)
    client.delete(keys.result(backup_id))
    tidy_all(client, settings, abandoned_s=0)
    assert client.exists(keys.staged(TENANT, backup_id))
    dead_letters.discard(client, settings, dead_letters.list_dead_letters(client)[0].backup_id)
    tidy_all(client, settings, abandoned_s=0)
    assert not client.exists(keys.staged(TENANT, backup_id))


def _waits(client: redis.Redis, settings: Settings) -> None:
    acceptance.accept(client, settings, [submission(1)])


def _waits_after_a_fault(client: redis.Redis, settings: Settings) -> None:
    _waits(client, settings)
    ids = [submission(1).entry.backup_id]
    receipts.show_retrying(client, ids, StoreUnavailable("no space"), settings.receipt_ttl_s)


def _is_a_dead_letter(client: redis.Redis, settings: Settings) -> None:
    _waits(client, settings)
    dead_letters.bury(
        Inbox(client, settings, TENANT), submission(1).entry, StagedBytesMissing("gone")
    )
    client.delete(keys.result(submission(1).entry.backup_id))


def _has_no_record_of_ours(client: redis.Redis, settings: Settings) -> None:
    _waits(client, settings)
    name = keys.result(submission(1).entry.backup_id)
    client.delete(name)
    client.lpush(name, b"somebody's")


@pytest.mark.parametrize(
    "happens", [_waits, _waits_after_a_fault, _is_a_dead_letter, _has_no_record_of_ours]
)
def test_bytes_that_are_needed_since_the_inbox_was_read_stay(
    client: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[redis.Redis, Settings], None],
) -> None:
    staged = keys.staged(TENANT, submission(1).entry.backup_id)
    client.set(staged, b"left by an interrupted transaction")
    look = tidy._waiting_ids

    def before_it_happens(*arguments: Any) -> set[str]:
        found = look(*arguments)
        happens(client, settings)
        return found

    monkeypatch.setattr(tidy, "_waiting_ids", before_it_happens)
    assert tidy_all(client, settings, abandoned_s=0) == 0
    assert client.get(staged) == b"/ip"


def test_the_bytes_of_an_entry_stay_whatever_became_of_its_record(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1)])
    client.delete(keys.result(submission(1).entry.backup_id))
    assert tidy_all(client, inbox.settings, abandoned_s=0) == 0
    assert client.exists(keys.staged(TENANT, submission(1).entry.backup_id))


@pytest.mark.parametrize("signed", [False, True])
def test_files_that_a_dead_letter_may_need_stay(
    client: redis.Redis, settings: Settings, signed: bool
) -> None:
    volume = VolumeStaging(settings.staging_path)
    entry = dataclasses.replace(submission(1).entry, staging="volume")
    volume.stage(TENANT, entry, Contents(b"/ip", None))
    acceptance.accept(client, settings, [acceptance.Submission(TENANT, entry, data=None)])
    waiting = Inbox(client, settings, TENANT)
    if signed:
        dead_letters.bury(waiting, entry, StagedBytesMissing("gone"))
        waiting.settle(waiting.peek(1), marks=as_dead(waiting.peek(1)))
    else:
        wants_signatures = load_settings(signing_key="k" * 32)
        [found] = read_batch(Inbox(client, wants_signatures, TENANT)).unreadable
        dead_letters.bury_unreadable(waiting, found)
    # Letters are kept for longer than records.
    client.delete(keys.result(entry.backup_id))
    for file in settings.staging_path.rglob("*"):
        os.utime(file, (1, 1))
    assert waiting.depth() == tidy_all(client, settings) == 0
    assert volume.read(TENANT, [entry]) == [Contents(b"/ip", None)]
    dead_letters.discard(client, settings, dead_letters.list_dead_letters(client)[0].backup_id)
    tidy_all(client, settings)
    assert volume.read(TENANT, [entry]) == [None]
