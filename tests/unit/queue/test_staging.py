"""Staging: bytes come back exactly or not at all, from Redis and from the volume."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from pathlib import Path

import pytest
import redis

from confkeep import enqueue
from confkeep.broker import keys
from confkeep.errors import InboxFull, StagedBytesDamaged, StagedBytesMissing, StagingUnavailable
from confkeep.queue import acceptance, staging
from confkeep.queue.entry import Entry
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import RedisStaging, VolumeStaging
from confkeep.settings import Settings, load_settings
from tests.turns import DEVICE, TENANT, accept, submission
from worker.engine import receive
from worker.queue.inbox import Inbox

BINARY = b"\x88\xac\xa1\xb1" + bytes(range(256))


def entry_with_binary() -> Entry:
    return dataclasses.replace(
        submission(1).entry,
        binary_bytes=len(BINARY),
        binary_sha256=hashlib.sha256(BINARY).hexdigest(),
    )


def test_missing_and_damaged_bytes_are_told_apart(settings: Settings) -> None:
    entry = entry_with_binary()
    good = Contents(b"/ip", BINARY)
    assert staging.checked(entry, good) is good
    with pytest.raises(StagedBytesMissing):
        staging.checked(entry, None)
    for damaged in (
        Contents(b"/ip", BINARY[:-1]),
        Contents(b"/ip", BINARY + b"x"),
        Contents(b"/iq", BINARY),
        Contents(b"/ip", BINARY[:-1] + b"\0"),
        Contents(b"/ip", None),
        Contents(b"", None),
    ):
        with pytest.raises(StagedBytesDamaged):
            staging.checked(entry, damaged)
    with pytest.raises(StagedBytesDamaged):
        staging.checked(submission(1).entry, Contents(b"/ip", b"a binary that nobody sent"))


@pytest.mark.parametrize("large", [2, 10**9])
def test_large_bytes_are_read_in_parts_and_missing_ones_are_missing(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    store = RedisStaging(client)
    pair, alone = entry_with_binary(), submission(2).entry
    for entry, contents in ((pair, Contents(b"/ip", BINARY)), (alone, Contents(b"/ip", None))):
        data = store.stage(TENANT, entry, contents)
        accept(inbox, [acceptance.Submission(TENANT, entry, data)])
    missing = submission(3).entry
    monkeypatch.setattr(staging, "LARGEST_DEFLATED", large)
    assert store.read(TENANT, [pair, missing, alone]) == [
        Contents(b"/ip", BINARY),
        None,
        Contents(b"/ip", None),
    ]


def test_a_volume_file_of_other_bytes_does_not_replace_the_accepted_one(
    settings: Settings,
) -> None:
    volume = VolumeStaging(settings.staging_path)
    first, other = submission(1).entry, submission(1, b"/other").entry
    volume.stage(TENANT, first, Contents(b"/ip", None))
    volume.stage(TENANT, other, Contents(b"/other", None))
    there = [Contents(b"/ip", None), Contents(b"/other", None)]
    assert volume.read(TENANT, [first, other]) == there
    volume.discard(TENANT, [other])
    assert volume.read(TENANT, [first, other]) == [there[0], None]


def test_a_volume_that_refuses_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    volume = VolumeStaging(tmp_path / "file" / "staging")
    with pytest.raises(StagingUnavailable) as raised:
        volume.stage(TENANT, submission(1).entry, Contents(b"/ip", None))
    assert str(tmp_path) not in str(raised.value)


def test_what_a_client_staged_is_read_in_its_tenants_own_place(
    client: redis.Redis, inbox: Inbox
) -> None:
    name, other = str(uuid.uuid4()), str(uuid.uuid4())
    client.set(keys.handoff(TENANT, name), b"data")
    folder = inbox.settings.staging_path / "handoff" / TENANT
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"data")
    for store in (RedisStaging(client), VolumeStaging(inbox.settings.staging_path)):
        assert store.read_handoff(TENANT, name) == b"data"
        assert store.read_handoff(other, name) is None
        store.discard_handoff(TENANT, name)
        assert store.read_handoff(TENANT, name) is None


@pytest.mark.parametrize("where", ["redis", "volume"])
def test_what_a_client_staged_stays_until_its_backup_is_accepted(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A message that is refused is tried again, and needs its bytes then."""
    name, data = str(uuid.uuid4()), b"/ip address"
    in_redis = where == "redis"
    store = RedisStaging(client) if in_redis else VolumeStaging(inbox.settings.staging_path)
    folder = inbox.settings.staging_path / "handoff" / TENANT
    folder.mkdir(parents=True)
    if in_redis:
        client.set(keys.handoff(TENANT, name), data)
    else:
        (folder / name).write_bytes(data)
    reference = {"id": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    message = {"tenant_id": TENANT, "device_id": DEVICE, "export_staged": reference, "message": "m"}

    def receive_with(**changed: object) -> None:
        used = inbox.settings.model_copy(update={"staging": where, **changed})
        for module in (receive, enqueue):
            monkeypatch.setattr(module, "get_settings", lambda: used)
            monkeypatch.setattr(module, "get_client", lambda _settings: client)
        receive.accept(str(uuid.UUID(int=9)), message)

    accept(inbox, [submission(1)])
    with pytest.raises(InboxFull):
        receive_with(inbox_max_backups=1)
    assert store.read_handoff(TENANT, name) == data
    receive_with()
    assert inbox.depth() == 2
    assert store.read_handoff(TENANT, name) is None


def test_new_backups_go_where_the_settings_say(client: redis.Redis, tmp_path: Path) -> None:
    volume = load_settings(staging="volume", staging_path=tmp_path)
    assert isinstance(staging.of_settings(volume, client), VolumeStaging)
    assert isinstance(staging.of_settings(load_settings(), client), RedisStaging)
    # Entries that were accepted before the setting changed are found where they are.
    assert isinstance(staging.of_entry(submission(1).entry, volume, client), RedisStaging)


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_nothing_is_left_of_a_file_that_could_not_be_staged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    volume, entry = VolumeStaging(settings.staging_path), submission(1).entry
    # The folder is there, so that the file alone is refused.
    volume.stage(TENANT, submission(2).entry, Contents(b"/ip", None))
    before = list(settings.staging_path.rglob("*"))

    def refuse(*_: object) -> None:
        raise OSError(28, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StagingUnavailable, match="No space left"):
            volume.stage(TENANT, entry, Contents(b"/ip", None))
    assert list(settings.staging_path.rglob("*")) == before
