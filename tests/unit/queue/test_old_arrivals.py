"""What an earlier release left as arrivals is accepted once, in order and whole, and leaves nothing."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BackupsWaiting, BrokerUnavailable
from confkeep.queue import staging, wakeups
from confkeep.queue.acceptance import Submission
from confkeep.queue.entry import sign
from confkeep.queue.staged_bytes import Contents
from confkeep.settings import Settings
from tests.judge import assert_all_readable
from tests.turns import read_batch
from tests.unit.queue.test_inbox import DEVICE, TENANT, all_keys, batch, submission
from tests.unit.queue.test_signed_entries import NEW, OLD, with_key
from tests.unit.queue.test_sweeper import sent, sweeper_of
from worker.engine import drain, forget, hold
from worker.queue import dead_letters, erase, old_arrivals, tidy
from worker.queue.inbox import Inbox

#: A tenant of a shard that the worker of TENANT's does not have, if there are two.
ELSEWHERE = next(
    tenant
    for tenant in (str(uuid.UUID(int=n)) for n in range(100, 200))
    if keys.shard_of(tenant, 16) % 2 != keys.shard_of(TENANT, 16) % 2
)
NAME = str(uuid.UUID(int=77))

__all__ = ["sent"]


def leave(client: redis.Redis, settings: Settings, *given: Submission) -> None:
    """Write what a producer of the earlier release did, in one transaction."""
    pipe = client.pipeline(transaction=True)
    for one in given:
        tenant, entry, name = one.tenant_id, one.entry, str(uuid.uuid4())
        text, keyring = entry.to_json(), settings.keyring
        arrival = {
            "entry": text,
            "signature": None if keyring is None else sign(keyring, tenant, text),
            "name": name,
            "at_ms": 1_700_000_000_000,
        }
        if isinstance(one.data, bytes):
            pipe.setnx(f"confkeep:arrived:{tenant}:{name}", one.data)
        pipe.hsetnx(f"confkeep:arriving:{tenant}", entry.backup_id, entry.digest(tenant))
        pipe.rpush(f"confkeep:arrivals:{tenant}", json.dumps(arrival, separators=(",", ":")))
        pipe.hincrby("confkeep:arriving", "entries", 1)
        pipe.hincrby("confkeep:arriving", "bytes", entry.size_bytes)
        pipe.hincrby("confkeep:arriving", tenant, entry.size_bytes)
    pipe.execute()


def left(client: redis.Redis) -> set[str]:
    return {name for name in all_keys(client) if name.startswith("confkeep:arriv")}


def test_the_sweep_makes_of_them_what_an_enqueue_leaves(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    client.set(keys.TIDY, "not now", ex=60)
    leave(client, settings, submission(1), submission(2, b"/ip\n" * 900))
    other = submission(3, tenant=ELSEWHERE)
    leave(client, settings, other)
    index = keys.shard_of(TENANT, settings.shards) % 2
    workers = [settings.model_copy(update={"worker_count": 2, "worker_index": n}) for n in (0, 1)]
    sweeper_of(client, workers[index]).sweep()
    assert [waiting.entry for waiting in batch(client)] == [
        submission(1).entry,
        submission(2, b"/ip\n" * 900).entry,
    ]
    assert client.get(keys.staged(TENANT, submission(1).entry.backup_id)) == b"/ip"
    assert old_arrivals.tenants(client) == [other.tenant_id], "another worker's"
    sweeper_of(client, workers[1 - index]).sweep()
    assert not left(client)
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead, turn.left) == (2, 0, 0)
    assert_all_readable(settings.git_store_path)


def test_what_was_interrupted_is_accepted_once(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(client, settings, submission(1), submission(2))
    text = client.lindex(f"confkeep:arrivals:{TENANT}", 0)
    assert text is not None

    def killed(*_: object) -> int:
        raise redis.ConnectionError("the worker ends here")

    for name in ("delete", "lrem"):
        monkeypatch.setattr(client, name, killed)
        with pytest.raises(BrokerUnavailable):
            old_arrivals.accept(client, settings, TENANT, 9)
        monkeypatch.undo()
    drain.drain_inbox(Inbox(client, settings, TENANT))
    assert old_arrivals.accept(client, settings, TENANT, 9) == 2
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead) == (1, 0)
    assert not left(client)


def test_limits_hold_them_back_in_their_order(client: redis.Redis, settings: Settings) -> None:
    small = settings.model_copy(update={"inbox_max_backups": 2})
    leave(client, settings, *(submission(n) for n in range(4)))
    assert old_arrivals.accept(client, settings, TENANT, 1) == 1
    assert old_arrivals.accept(client, small, TENANT, 9) == 1
    assert old_arrivals.tenants(client) == [TENANT]
    drain.drain_inbox(Inbox(client, settings, TENANT))
    assert old_arrivals.accept(client, small, TENANT, 9) == 2
    assert [waiting.entry for waiting in batch(client)] == [submission(n).entry for n in (2, 3)]


@pytest.mark.parametrize(
    "text",
    [
        b"{nonsense",
        b"\xff\xfe",
        b"[]",
        b"{}",
        json.dumps({"entry": "{", "signature": None, "name": NAME}).encode(),
        json.dumps({"entry": None, "signature": None, "name": NAME}).encode(),
        json.dumps({"entry": 5, "signature": 5, "name": NAME}).encode(),
        json.dumps({"entry": "\udcff", "signature": None, "name": NAME}).encode(),
    ],
)
def test_what_is_no_backup_is_left_to_a_person_and_holds_nothing_up(
    client: redis.Redis, settings: Settings, text: bytes
) -> None:
    leave(client, settings, submission(1))
    client.rpush(f"confkeep:arrivals:{TENANT}", text)
    leave(client, settings, submission(2), submission(1, b"/another of that id"))
    assert old_arrivals.accept(client, settings, TENANT, 9) == 4
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead, turn.left) == (2, 2, 0)
    letters = dead_letters.list_dead_letters(client)
    assert {letter.backup_id.partition("-")[0] for letter in letters} == {"unreadable"}
    assert_all_readable(settings.git_store_path)


def test_what_no_key_signed_becomes_a_dead_letter(client: redis.Redis, settings: Settings) -> None:
    ours = with_key(settings, NEW)
    leave(client, ours, submission(1))
    leave(client, settings, submission(2))
    leave(client, with_key(settings, OLD), submission(3), submission(1, b"/planted"))
    assert old_arrivals.accept(client, ours, TENANT, 9) == 4
    found = read_batch(Inbox(client, ours, TENANT))
    assert [one.entry for one in found.entries] == [submission(1).entry]
    assert [type(one.error).__name__ for one in found.unreadable[:2]] == ["NotSigned"] * 2
    assert client.get(keys.staged(TENANT, submission(1).entry.backup_id)) == b"/ip"


def test_an_erasure_waits_for_them_and_leaves_nothing(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (forget, hold):
        monkeypatch.setattr(module, "get_client", lambda _settings=None: client)
    monkeypatch.setattr(wakeups, "send", lambda *_, **__: None)
    leave(client, settings, submission(1))
    with pytest.raises(BackupsWaiting, match=DEVICE):
        forget.forget_device(settings, TENANT, DEVICE)
    leave(client, settings, submission(2))
    with pytest.raises(BackupsWaiting, match=TENANT):
        forget.forget_tenant(settings, TENANT)
    assert len(batch(client)) == 2
    client.set(f"confkeep:arrived:{TENANT}:{NAME}", b"of a letter that a person has")
    erase.clear_tenant(Inbox(client, settings, TENANT))
    assert not left(client)


def test_tidying_deletes_no_file_while_there_are_some(
    client: redis.Redis, settings: Settings
) -> None:
    volume: Any = staging.VolumeStaging(settings.staging_path)
    entry = dataclasses.replace(submission(1).entry, staging="volume")
    volume.stage(TENANT, entry, Contents(b"/ip", None))
    leave(client, settings, Submission(TENANT, entry, None))
    tidy.tidy(client, settings, abandoned_s=-60)
    assert old_arrivals.accept(client, settings, TENANT, 9) == 1
    tidy.tidy(client, settings, abandoned_s=-60)
    assert volume.read(TENANT, [entry]) == [Contents(b"/ip", None)]
