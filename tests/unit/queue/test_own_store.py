"""A worker commits only to the store that the other workers of its shards commit to."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.broker.connections import open_client
from confkeep.errors import StoreNotShared, StoreUnavailable
from confkeep.queue import acceptance
from confkeep.settings import Settings
from tests.servers import wait_for
from tests.turns import TENANT, submission
from worker.engine import drain
from worker.process import own_store, sweep_step
from worker.process.own_store import StoreStep
from worker.process.sweep_step import SweeperStep
from worker.process.sweeper import Sweeper
from worker.queue import inboxes
from worker.queue.inbox import Inbox
from worker.queue.sweep_report import SweepReport
from worker.store.repository import store_id

OTHER = "ab" * 16


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_store, "_settled", {})


def note(client: redis.Redis, noted: str, shards: range = range(16)) -> None:
    client.hset(keys.STORES, mapping=dict.fromkeys(map(str, shards), noted))


def noted(client: redis.Redis) -> dict[str, str]:
    found: Any = client.hgetall(keys.STORES)
    return {shard.decode(): text.decode() for shard, text in found.items()}


def with_a_tenant(settings: Settings) -> Settings:
    (settings.git_store_path / f"{TENANT}.git").mkdir(parents=True)
    return settings


def test_a_new_store_gets_an_id_that_redis_notes_for_its_shards(
    client: redis.Redis, settings: Settings
) -> None:
    own = settings.model_copy(update={"worker_index": 1, "worker_count": 4})
    made = own_store.settle(client, own)
    assert store_id.is_id(made)
    assert (settings.git_store_path / "confkeep.store").read_text() == f"{made}\n"
    assert noted(client) == dict.fromkeys(["1", "5", "9", "13"], made)
    assert own_store.settle(client, settings) == made, "the same store for all other shards"
    assert len(noted(client)) == 16
    client.flushall()
    assert own_store.settle(client, settings) == made, "Redis was emptied"
    assert set(noted(client).values()) == {made}
    assert [path.name for path in settings.git_store_path.iterdir()] == ["confkeep.store"]


def test_another_store_of_one_of_the_shards_is_refused_and_changes_nothing(
    client: redis.Redis, settings: Settings
) -> None:
    store_id_here = store_id.new()
    with_a_tenant(settings)
    store_id.write(settings.git_store_path, store_id_here)
    note(client, OTHER, range(7, 8))
    with pytest.raises(StoreNotShared, match=OTHER[:8]):
        own_store.settle(client, settings)
    assert noted(client) == {"7": OTHER}
    assert own_store.known_id(settings) is None
    elsewhere = settings.model_copy(update={"worker_index": 0, "worker_count": 2})
    assert own_store.settle(client, elsewhere) == store_id_here, "7 is none of its shards"
    assert own_store.use(client, settings) == store_id_here
    assert own_store.settle(client, settings) == store_id_here


def test_a_store_from_a_mirror_gets_its_id_again(client: redis.Redis, settings: Settings) -> None:
    note(client, OTHER)
    assert own_store.settle(client, with_a_tenant(settings)) == OTHER
    assert store_id.read(settings.git_store_path) == OTHER


def test_a_store_without_an_id_is_none_of_two(client: redis.Redis, settings: Settings) -> None:
    note(client, OTHER)
    note(client, "cd" * 16, range(3, 5))
    with pytest.raises(StoreNotShared, match="no id"):
        own_store.settle(client, with_a_tenant(settings))


def test_an_empty_folder_in_the_place_of_a_store_is_refused(
    client: redis.Redis, settings: Settings
) -> None:
    note(client, OTHER)
    (settings.git_store_path / "lost+found").mkdir(parents=True)
    with pytest.raises(StoreNotShared, match="no id"):
        own_store.settle(client, settings)
    assert store_id.read(settings.git_store_path) is None
    made = own_store.use(client, settings)
    assert made != OTHER
    assert own_store.settle(client, settings) == made


def test_a_store_without_an_id_is_refused_while_another_worker_has_it(
    client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    first = Sweeper(None, settings, client, "first")
    first.sweep()
    elsewhere = with_a_tenant(settings.model_copy(update={"git_store_path": tmp_path / "second"}))
    with pytest.raises(StoreNotShared, match="worker first commits to it"):
        own_store.settle(client, elsewhere, "second")
    # That worker was killed, and it is the same that starts again.
    assert own_store.settle(client, elsewhere, "first") == own_store.known_id(settings)


@pytest.mark.parametrize(
    ("store", "age_ms", "interval_ms", "is_refused"),
    [
        *((OTHER, 0, 2_000, True), (OTHER, 60_000, 2_000, False), (OTHER, 50_000, 20_000, True)),
        ("cd" * 16, 0, 2_000, False),
    ],
)
def test_only_a_worker_that_runs_with_that_very_store_keeps_it_from_another(
    client: redis.Redis,
    settings: Settings,
    store: str,
    age_ms: int,
    interval_ms: int,
    is_refused: bool,
) -> None:
    """Also one of other shards: the store is there still, and this is another one."""
    note(client, OTHER)
    swept_ms = inboxes.server_time_ms(client) - age_ms
    report = SweepReport("elsewhere", [99], swept_ms, store=store, interval_ms=interval_ms)
    client.hset(keys.WORKERS, report.name, report.to_json())
    if is_refused:
        with pytest.raises(StoreNotShared, match="worker elsewhere commits to it"):
            own_store.settle(client, with_a_tenant(settings))
    else:
        assert own_store.settle(client, with_a_tenant(settings)) == OTHER


@pytest.mark.parametrize("text", ["\\x00 forged", "ab", "zy" * 16, "ab" * 17])
def test_what_is_no_id_counts_as_none(client: redis.Redis, settings: Settings, text: str) -> None:
    note(client, text)
    settings.git_store_path.mkdir()
    (settings.git_store_path / "confkeep.store").write_text(text)
    made = own_store.settle(client, settings)
    Sweeper(None, settings, client, "w").sweep()
    assert store_id.read(settings.git_store_path) == made != text
    assert set(noted(client).values()) == {made}


def test_of_two_that_start_at_once_one_store_wins(
    client: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    stores = [settings.model_copy(update={"git_store_path": tmp_path / f"{n}"}) for n in range(2)]
    barrier, ends = threading.Barrier(2), []

    def start(own: Settings) -> None:
        barrier.wait()
        try:
            ends.append(own_store.settle(client, own))
        except StoreNotShared:
            ends.append("refused")

    threads = [threading.Thread(target=start, args=(own,)) for own in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.count("refused") >= 1
    assert {end for end in ends if end != "refused"} <= set(noted(client).values())


def test_workers_that_start_at_once_on_one_new_store_are_all_right(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one makes the store's id, and notes it, in the middle of this one's look."""
    noted_ids, read = own_store.noted_ids, store_id.read
    for name, real in (("noted_ids", noted_ids), ("read", read)):
        for before in (True, False):
            client.flushall()
            shutil.rmtree(settings.git_store_path, ignore_errors=True)
            others: list[str] = []

            def beside(
                *arguments: Any, real: Any = real, before: bool = before, others: list[str] = others
            ) -> Any:
                monkeypatch.setattr(own_store, "noted_ids", noted_ids)
                monkeypatch.setattr(store_id, "read", read)
                found = None if before else real(*arguments)
                others.append(own_store.settle(client, settings))
                return real(*arguments) if before else found

            module = own_store if name == "noted_ids" else store_id
            monkeypatch.setattr(module, name, beside)
            assert [own_store.settle(client, settings)] == others


def test_a_turn_commits_nothing_to_a_folder_that_took_the_stores_place(
    client: redis.Redis, settings: Settings
) -> None:
    own_store.settle(client, settings)
    acceptance.accept(client, settings, [submission(1, tenant=TENANT)])
    away = settings.git_store_path.with_name("away")
    settings.git_store_path.rename(away)
    settings.git_store_path.mkdir()
    inbox = Inbox(client, settings, TENANT)
    with pytest.raises(StoreNotShared, match="any more"):
        drain.drain_inbox(inbox)
    assert list(settings.git_store_path.iterdir()) == []
    (settings.git_store_path / "confkeep.store").write_text(OTHER)
    with pytest.raises(StoreNotShared, match="any more"):
        drain.drain_inbox(inbox)
    assert inbox.depth() == 1, "nothing is lost"
    shutil.rmtree(settings.git_store_path)
    away.rename(settings.git_store_path)
    assert drain.drain_inbox(inbox).committed == 1


def test_a_turn_looks_itself_where_the_worker_could_not(
    client: redis.Redis, settings: Settings
) -> None:
    """The server was away when the worker started, and the processes of its pool know nothing of it."""
    note(client, OTHER)
    acceptance.accept(client, settings, [submission(1, tenant=TENANT)])
    with pytest.raises(StoreNotShared):
        drain.drain_inbox(Inbox(client, settings, TENANT))


def test_a_worker_whose_shards_get_another_store_ends(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SimpleNamespace(should_stop=None)
    quick = settings.model_copy(update={"sweep_interval_s": 0.01})
    monkeypatch.setattr(sweep_step, "state", state)
    monkeypatch.setattr(sweep_step, "open_client", lambda *_, **__: client)
    monkeypatch.setattr(sweep_step, "get_settings", lambda: quick)
    step = SweeperStep(SimpleNamespace())
    step.start(SimpleNamespace(app=None, hostname="w", heartbeat=None, broker_problems=None))
    wait_for(lambda: client.exists(keys.STORES), "the first sweep")
    note(client, OTHER)
    wait_for(lambda: state.should_stop == StoreNotShared.exit_code, "the worker to end")
    step.stop(SimpleNamespace())
    assert not client.exists(keys.sweep("0-16-1")), "another one sweeps"


def test_a_worker_of_another_store_takes_no_lease(client: redis.Redis, settings: Settings) -> None:
    own_store.settle(client, settings)
    note(client, OTHER)
    with pytest.raises(StoreNotShared):
        Sweeper(None, settings, client, "w").sweep()
    assert not client.exists(keys.sweep("0-16-1"))


def test_a_worker_of_another_store_does_not_start(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(client, OTHER)
    monkeypatch.setattr(own_store, "open_client", lambda _: client)
    monkeypatch.setattr(own_store, "get_settings", lambda: settings)
    parent = SimpleNamespace(hostname="w", exitcode=None)
    with pytest.raises(SystemExit):
        StoreStep(SimpleNamespace()).start(parent)
    assert parent.exitcode == StoreNotShared.exit_code


@pytest.mark.parametrize("away", ["store", "server"])
def test_a_worker_starts_where_it_cannot_look_yet(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, away: str
) -> None:
    own = settings
    if away == "store":
        (tmp_path / "file").touch()
        own = settings.model_copy(update={"git_store_path": tmp_path / "file" / "store"})
    nobody = open_client(settings.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody"}))
    monkeypatch.setattr(own_store, "open_client", lambda _: nobody)
    monkeypatch.setattr(own_store, "get_settings", lambda: own)
    parent = SimpleNamespace(hostname="w", exitcode=None)
    StoreStep(SimpleNamespace()).start(parent)
    assert parent.exitcode is None
    assert own_store.known_id(own) is None


def test_a_store_that_refuses_is_asked_again(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker waits for a volume that is away; its sweeps wake what the others can commit."""

    def refuse(_: Path) -> str | None:
        raise StoreUnavailable("stale file handle")

    with monkeypatch.context() as away:
        away.setattr(store_id, "read", refuse)
        one = Sweeper(None, settings, client, "w")
        assert one.sweep() == 0
        assert own_store.known_id(settings) is None
    one.sweep()
    assert own_store.known_id(settings) is not None
