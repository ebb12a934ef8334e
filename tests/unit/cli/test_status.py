"""status: what it says about inboxes, workers and dead letters."""

from __future__ import annotations

import json

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import StagedBytesMissing, StoreUnavailable
from confkeep.queue import acceptance
from confkeep.queue.entry import Entry
from confkeep.settings import load_settings
from tests.unit.cli.conftest import ROUTER, TENANT, Confkeep, Store
from worker.cli.terminal import ranges
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Inbox

OTHER = "aaaa2222-0000-4000-8000-000000000002"
BACKUP = "00000000-0000-4000-8000-00000000000{}"


def entry(number: int) -> Entry:
    return Entry(BACKUP.format(number), ROUTER, "m", None, 1, "0" * 64, None, None, "redis")


def accept(client: redis.Redis, tenant_id: str, number: int) -> None:
    submission = acceptance.Submission(tenant_id, entry(number), b"x", None)
    (answer,) = acceptance.accept(client, load_settings(), [submission])
    assert answer.outcome == "accepted"


def test_an_idle_deployment(store: Store, confkeep: Confkeep, client: redis.Redis) -> None:
    done = confkeep("status")

    assert done.exit_code == 0
    assert "Workers: none has been seen" in done.stdout
    assert "No worker serves shards 0-15." in done.stdout
    assert "Inboxes: 0 backups of 0 tenants waiting, 0 wake-ups queued" in done.stdout
    assert "Dead letters: 0" in done.stdout


def test_a_store_that_is_not_here_is_told_as_history_tells_it(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    problem, hint = confkeep("history").stderr.splitlines()

    status = confkeep("status").stdout

    missing = f"there is no folder {store.path}"
    assert problem == f"error: {missing}"
    assert f"\nStore: {missing}\n{hint.removeprefix('hint: ')}\n" in status
    assert "tenants" not in status.partition("Store")[2]
    assert json.loads(confkeep("status", "--json").stdout)["unreadable"] == {"store": missing}


def test_what_waits_and_why(store: Store, confkeep: Confkeep, client: redis.Redis) -> None:
    for number in range(3):
        accept(client, TENANT, number)
    accept(client, OTHER, 4)
    for _ in range(backoff.STALLED_TRIES):
        backoff.failed(
            Inbox(client, load_settings(), TENANT), StoreUnavailable("disk \x1b[31mfull")
        )
    client.delete(*(keys.queue_of(tenant, 16) for tenant in (TENANT, OTHER)))
    client.rpush(keys.shard_queue(7), "wake-up")
    dead_letters.bury(Inbox(client, load_settings(), OTHER), entry(9), StagedBytesMissing("gone"))

    said = json.loads(confkeep("status", "--json").stdout)
    done = confkeep("status")

    found = {box["tenant_id"]: box for box in said["inboxes"]}
    assert found[TENANT]["entries"] == 3
    assert found[TENANT]["shard"] == keys.shard_of(TENANT, 16)
    assert (found[TENANT]["stalled"], found[TENANT]["failed_tries"]) == (True, 5)
    assert found[TENANT]["reason"] == "StoreUnavailable: disk \x1b[31mfull"
    assert (found[OTHER]["stalled"], found[OTHER]["reason"]) == (False, None)
    assert said["wakeups"] == {"7": 1}
    assert said["dead_letters"][0]["reason"] == "gone"
    assert "Inboxes: 4 backups of 2 tenants waiting, 1 wake-up queued" in done.stdout
    assert "Waiting after a fault: 1 tenant, 1 stalled" in done.stdout
    assert f"{TENANT}: stalled, 5 failed tries in 0" in done.stdout
    assert rf"{chr(10)}    StoreUnavailable: disk \x1b[31mfull" in done.stdout
    assert "Dead letters: 1" in done.stdout
    assert entry(9).backup_id in done.stdout


def test_repositories_that_everybody_may_enter_are_told(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    store.add(ROUTER, b"/ip\n")
    assert json.loads(confkeep("status", "--json").stdout)["open_to_others"] == 0
    assert "Every user" not in confkeep("status").stdout
    for folder in (store.path, store.path / f"{TENANT}.git"):
        folder.chmod(0o755)
    assert json.loads(confkeep("status", "--json").stdout)["open_to_others"] == 1
    assert "Every user of this machine may read 1 repository" in confkeep("status").stdout
    # Nobody gets in who cannot enter the store.
    store.path.chmod(0o700)
    assert json.loads(confkeep("status", "--json").stdout)["open_to_others"] == 0


def test_a_silent_worker_does_not_count_as_one(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    now_ms = int(float(client.time()[0]) * 1000)
    report = {"shards": [0, 2, 4], "swept_ms": now_ms}
    silent = {"shards": [1, 3], "swept_ms": now_ms - 60_000}
    client.hset(keys.WORKERS, "alive@a", json.dumps(report))
    client.hset(keys.WORKERS, "silent@b", json.dumps(silent))

    done = confkeep("status")

    assert "silent@b" in done.stdout
    assert "1 min ago" in done.stdout
    assert "No worker serves shards 1,3,5-15." in done.stdout


@pytest.mark.parametrize(
    ("numbers", "text"), [([], "none"), ([3], "3"), ([0, 1, 2, 7, 9, 10], "0-2,7,9-10")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
