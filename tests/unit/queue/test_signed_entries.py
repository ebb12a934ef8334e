"""Signed inbox entries: planted ones come to nothing, real ones go on, also while keys change."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import NotSigned
from confkeep.queue import acceptance
from confkeep.queue.acceptance import Submission
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import VolumeStaging
from confkeep.settings import Settings, load_settings
from tests.turns import DEVICE, TENANT, accept, as_dead, read_batch, submission
from worker.queue import dead_letters
from worker.queue.inbox import Batch, Inbox

OLD, NEW = "old-" + "o" * 32, "new-" + "n" * 32
OTHER_TENANT = str(uuid.UUID(int=7))


def with_key(settings: Settings, text: str, *, required: bool = True) -> Settings:
    return load_settings(
        git_store_path=settings.git_store_path,
        staging_path=settings.staging_path,
        signing_key=text,
        signing_required=required,
    )


@pytest.fixture
def signed(settings: Settings) -> Settings:
    return with_key(settings, NEW)


def read(client: redis.Redis, settings: Settings, tenant: str = TENANT) -> Batch:
    return read_batch(Inbox(client, settings, tenant))


def rows(client: redis.Redis) -> list[dict[bytes, bytes]]:
    found: Any = client.xrange(keys.inbox(TENANT))
    return [fields for _, fields in found]


def test_without_a_key_nothing_is_signed(client: redis.Redis, inbox: Inbox) -> None:
    accept(inbox, [submission(1)])
    [fields] = rows(client)
    assert set(fields) == {b"entry", b"at"}


def test_only_the_very_entry_in_its_own_inbox_passes(client: redis.Redis, signed: Settings) -> None:
    acceptance.accept(client, signed, [submission(1)])
    [real] = rows(client)
    text = submission(2).entry.to_json()
    planted = [
        {b"entry": text.encode()},
        {b"entry": text.encode(), b"signature": b"0" * 64},
        {b"entry": text.encode(), b"signature": b"\xff\xfe"},
        {b"entry": text.encode(), b"signature": real[b"signature"]},
        {**real, b"entry": real[b"entry"].replace(b"message 1", b"message 9")},
        {**real, b"entry": real[b"entry"] + b" "},
    ]
    for fields in planted:
        client.xadd(keys.inbox(TENANT), fields)  # type: ignore[arg-type]
    client.xadd(keys.inbox(OTHER_TENANT), real)  # type: ignore[arg-type]

    batch = read(client, signed)

    assert [waiting.entry for waiting in batch.entries] == [submission(1).entry]
    assert len(batch.unreadable) == len(planted)
    assert {type(found.error) for found in batch.unreadable} == {NotSigned}
    assert batch.unreadable[0].error.args == ("the inbox entry has no signature",)
    moved = read(client, signed, OTHER_TENANT)
    assert (moved.entries, len(moved.unreadable)) == ([], 1)


def test_keys_change_while_entries_wait(client: redis.Redis, inbox: Inbox) -> None:
    acceptance.accept(client, with_key(inbox.settings, OLD), [submission(1)])
    acceptance.accept(client, with_key(inbox.settings, f"{OLD},{NEW}"), [submission(2)])
    acceptance.accept(client, with_key(inbox.settings, f"{NEW},{OLD}"), [submission(3)])
    assert len(read(client, with_key(inbox.settings, f"{NEW},{OLD}")).entries) == 3
    retired = read(client, with_key(inbox.settings, NEW))
    assert [waiting.entry.message for waiting in retired.entries] == ["message 3"]


def test_a_key_is_introduced_while_unsigned_entries_wait(
    client: redis.Redis, inbox: Inbox, signed: Settings
) -> None:
    accept(inbox, [submission(1)])
    acceptance.accept(client, signed, [submission(2)])
    acceptance.accept(client, with_key(inbox.settings, OLD), [submission(3)])
    batch = read(client, with_key(inbox.settings, NEW, required=False))
    assert [waiting.entry.message for waiting in batch.entries] == ["message 1", "message 2"]
    assert len(read(client, inbox.settings).entries) == 3


def plant(client: redis.Redis, signed: Settings) -> str:
    """An unsigned entry as a dead letter; it names the id of a real backup that waits."""
    acceptance.accept(client, signed, [submission(1)])
    entry = dataclasses.replace(submission(1).entry, message="planted")
    client.xadd(keys.inbox(TENANT), {"entry": entry.to_json()})
    [found] = read(client, signed).unreadable
    dead_letters.bury_unreadable(Inbox(client, signed, TENANT), found)
    [letter] = dead_letters.list_dead_letters(client)
    return letter.backup_id


def test_a_planted_entry_is_a_dead_letter_that_touches_nothing_of_the_real_one(
    client: redis.Redis, signed: Settings
) -> None:
    name = plant(client, signed)
    real = submission(1).entry
    letter = dead_letters.get(client, name)
    assert name.startswith(f"unsigned-{TENANT}-")
    assert (letter.kind, letter.device_id, letter.unsigned_id) == (
        "NotSigned",
        DEVICE,
        real.backup_id,
    )
    assert [waiting.entry for waiting in read(client, signed).entries] == [real]
    dead_letters.discard(client, signed, name)
    assert client.get(keys.staged(TENANT, real.backup_id)) == b"/ip"
    assert dead_letters.list_dead_letters(client) == []


def test_discarding_a_planted_entry_leaves_the_real_ones_file(
    client: redis.Redis, signed: Settings
) -> None:
    entry = dataclasses.replace(submission(1).entry, staging="volume")
    volume = VolumeStaging(signed.staging_path)
    volume.stage(TENANT, entry, Contents(b"/ip", None))
    acceptance.accept(client, signed, [Submission(TENANT, entry, None)])
    # The file's name is made of what it holds: a planted entry may name the same.
    client.xadd(keys.inbox(TENANT), {"entry": entry.to_json()})
    [found] = read(client, signed).unreadable
    dead_letters.bury_unreadable(Inbox(client, signed, TENANT), found)
    [letter] = dead_letters.list_dead_letters(client)
    dead_letters.discard(client, signed, letter.backup_id)
    assert volume.read(TENANT, [entry]) == [Contents(b"/ip", None)]


def test_a_retry_signs_nothing_that_nobody_vouches_for(
    client: redis.Redis, settings: Settings, signed: Settings
) -> None:
    name = plant(client, signed)
    client.delete(keys.inbox(TENANT), keys.result(submission(1).entry.backup_id))
    with pytest.raises(NotSigned):
        dead_letters.retry(client, signed, name)
    assert [letter.backup_id for letter in dead_letters.list_dead_letters(client)] == [name]

    dead_letters.retry(client, signed, name, vouch=True)

    assert dead_letters.list_dead_letters(client) == []
    [waiting] = read(client, signed).entries
    assert (waiting.entry.message, waiting.entry.backup_id) == (
        "planted",
        submission(1).entry.backup_id,
    )


def test_a_dead_letter_keeps_its_signature_and_gets_one_by_the_first_key(
    client: redis.Redis, inbox: Inbox
) -> None:
    acceptance.accept(client, with_key(inbox.settings, OLD), [submission(1)])
    both = with_key(inbox.settings, f"{NEW},{OLD}")
    [waiting] = read(client, both).entries
    error = NotSigned("any")
    dead_letters.bury(inbox, waiting.entry, error, waiting.signature)
    inbox.settle([waiting], marks=as_dead([waiting]))
    client.delete(keys.result(waiting.entry.backup_id))
    with pytest.raises(NotSigned):
        dead_letters.retry(client, with_key(inbox.settings, NEW), waiting.entry.backup_id)

    dead_letters.retry(client, both, waiting.entry.backup_id)

    assert len(read(client, with_key(inbox.settings, NEW)).entries) == 1
