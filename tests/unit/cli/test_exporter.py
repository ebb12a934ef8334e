"""`confkeep exporter`: few labels, few round trips, and an answer whatever is away."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from confkeep.broker import keys
from confkeep.settings import get_settings
from tests.scraping import Series, families, series, value
from tests.unit.cli.conftest import (
    OTHER_TENANT,
    ROUTER,
    SWITCH,
    TENANT,
    Confkeep,
    Store,
    hours_ago,
)
from worker.cli import one_machine
from worker.cli.interrupts import Interrupts
from worker.engine.stale import last_backups
from worker.figures import deployment_figures, store_figures
from worker.figures.store_figures import StoreFigures
from worker.observe import metrics
from worker.store.repository.tenant_repository import repository_path


def scraped(confkeep: Confkeep, *options: str) -> Series:
    done = confkeep("exporter", "--once", *options)
    assert done.exit_code == 0, done.output
    return series(done.stdout)


def labels_of(found: Series, name: str) -> set[str]:
    return {text for series, labels in found if series == name for _, text in labels}


def test_a_server_that_is_away_is_said_and_the_store_is_shown_all_the_same(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFKEEP_REDIS_URL", "unix:///nowhere/redis.sock")
    done = confkeep("exporter", "--once")
    assert done.exit_code == 0
    wanted = {metrics.UP, *metrics.OF_STORE}
    assert set(families(done.stdout)) == {metric.name for metric in wanted}
    assert value(series(done.stdout), metrics.UP.name) == 0


def test_without_a_store_its_figures_are_absent(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    found = scraped(confkeep)
    assert not {name for name, _ in found} & {metric.name for metric in metrics.OF_STORE}
    assert value(found, metrics.UP.name) == 1
    assert value(found, metrics.COMMITTED.name) == 0, "what never happened is 0, not absent"
    assert value(found, metrics.UNSERVED.name) == 16


def test_the_disk_is_what_is_taken_and_what_may_be_written(
    filled: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the 20 blocks that are free, 5 are kept for root: they are neither.
    disk = SimpleNamespace(f_frsize=4096, f_blocks=100, f_bfree=20, f_bavail=15)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    found = scraped(confkeep)
    assert value(found, metrics.STORE_DISK.name) == 95 * 4096
    assert value(found, metrics.STORE_FREE.name) == 15 * 4096


def test_labels_are_bounded(store: Store, confkeep: Confkeep, client: redis.Redis) -> None:
    tenants = [str(uuid.UUID(int=n)) for n in range(200)]
    for number, tenant in enumerate(tenants):
        client.zadd(keys.WAITING, {tenant: 1_000 + number})
        client.xadd(keys.inbox(tenant), {"entry": "x"})
        client.hset(keys.LOAD, tenant, 7)
    client.hset(keys.LOAD, mapping={"entries": 200, "bytes": 1_400})
    for worst in (3, 0):
        found = scraped(confkeep, "--worst", str(worst))
        for metric in (metrics.TENANT_BACKUPS, metrics.TENANT_BYTES, metrics.TENANT_AGE):
            assert labels_of(found, metric.name) == set(tenants[:worst]), "the oldest ones"
        shards = labels_of(found, metrics.INBOX_BACKUPS.name)
        assert shards == {f"{shard:02d}" for shard in range(16)}
        for metric, total in ((metrics.INBOX_BACKUPS, 200), (metrics.INBOX_BYTES, 1_400)):
            assert sum(n for (name, _), n in found.items() if name == metric.name) == total
        assert value(found, metrics.WAITING.name) == 200


def test_round_trips_do_not_grow_with_the_tenants(
    store: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = []
    real = redis.client.Pipeline.execute

    def execute(self: redis.client.Pipeline, raise_on_error: bool = True) -> list[object]:
        executed.append(1)
        return real(self, raise_on_error)

    monkeypatch.setattr(redis.client.Pipeline, "execute", execute)
    for number in range(50):
        client.zadd(keys.WAITING, {str(uuid.UUID(int=number)): 1})
        client.xadd(keys.inbox(str(uuid.UUID(int=number))), {"entry": "x"})
        if not number:
            scraped(confkeep)
            for_one = len(executed)
    assert value(scraped(confkeep), metrics.INBOX_BACKUPS.name, shard="05") >= 2
    assert len(executed) - for_one <= for_one


def test_workers_stalled_inboxes_and_room(
    store: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFKEEP_TOTAL_MAX_BACKUPS", "10")
    seconds, _ = client.time()
    now_ms = int(seconds) * 1000
    report = {"shards": [0, 1, 2], "swept_ms": now_ms}
    client.hset(keys.WORKERS, "a@x", json.dumps(report))
    client.hset(keys.WORKERS, "b@x", json.dumps({"shards": [3], "swept_ms": now_ms - 90_000}))
    for number, tries in enumerate((1, 5, 9)):
        tenant = str(uuid.UUID(int=number))
        client.zadd(keys.WAITING, {tenant: now_ms})
        client.xadd(keys.inbox(tenant), {"entry": "x"})
        wait = {"tries": tries, "since_ms": 1, "next_ms": 1, "reason": "no space"}
        client.hset(keys.backoff(tenant), mapping=wait)  # type: ignore[arg-type]
    client.hset(keys.LOAD, mapping={"entries": 4, "bytes": 1})
    client.rpush(keys.shard_queue(3), "x", "y")
    client.rpush(keys.RECEIVE_QUEUE, "z")
    found = scraped(confkeep)
    assert value(found, metrics.SWEEP_AGE.name, worker="b@x") >= 89
    assert value(found, metrics.UNSERVED.name) == 13
    assert value(found, metrics.FAILING.name) == 3
    assert value(found, metrics.STALLED.name) == 2
    assert value(found, metrics.INBOX_FULL.name) == 0.4
    assert value(found, metrics.QUEUE.name, queue="backups.shard.03") == 2
    assert value(found, metrics.QUEUE.name, queue=keys.RECEIVE_QUEUE) == 1


def test_stale_devices_are_those_of_confkeep_stale(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    store.add_at(hours_ago(50), SWITCH)
    store.add_at(hours_ago(30), ROUTER)
    store.add_at(hours_ago(1), ROUTER, tenant_id=OTHER_TENANT)
    for age, wanted in (("60h", 0), ("40h", 1), ("26h", 2), ("30m", 3)):
        said = json.loads(confkeep("stale", "--older-than", age, "--json").stdout)
        assert len(said["stale"]) == wanted
        found = scraped(confkeep, "--stale-after", age)
        assert value(found, metrics.STALE.name) == wanted
        assert value(found, metrics.DEVICES.name) == said["devices"] == 3


def test_devices_are_stale_from_the_age_of_the_setting(
    store: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_at(hours_ago(50), SWITCH)
    store.add_at(hours_ago(30), ROUTER)
    for hours, wanted in (("40", 1), ("26", 2), ("0", 0)):
        monkeypatch.setenv("CONFKEEP_STALE_HOURS", hours)
        get_settings.cache_clear()
        listed = json.loads(confkeep("devices", TENANT, "--stale", "--json").stdout)
        assert len(listed["devices"]) == wanted
        assert value(scraped(confkeep), metrics.STALE.name) == wanted


def test_only_tenants_whose_branch_moved_are_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_at(hours_ago(30), ROUTER)
    store.add_at(hours_ago(30), SWITCH, tenant_id=OTHER_TENANT)
    read: list[str] = []

    def noted(path: Path) -> dict[str, dt.datetime | None]:
        read.append(path.stem)
        return last_backups(path)

    monkeypatch.setattr(store_figures, "last_backups", noted)
    figures = StoreFigures(store.path, stale_after_s=26 * 3600, worst=10)

    def stale() -> float:
        figures.look()
        samples = {sample.metric: sample.value for sample in figures.samples()}
        return samples[metrics.STALE]  # type: ignore[return-value]

    assert (stale(), sorted(read)) == (2, sorted([TENANT, OTHER_TENANT]))
    read.clear()
    store.add_at(hours_ago(1), ROUTER)
    assert (stale(), read) == (1, [TENANT])
    read.clear()
    assert (stale(), read) == (1, [])


def test_the_largest_repositories_and_one_that_cannot_be_read(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    for _ in range(3):
        store.add(ROUTER, uuid.uuid4().bytes * 100)
    store.add(SWITCH, b"/ip\n", tenant_id=OTHER_TENANT)
    broken = repository_path(store.path, str(uuid.UUID(int=1)))
    broken.write_bytes(b"in the way")
    found = scraped(confkeep, "--worst", "1")
    broken.unlink()
    assert labels_of(found, metrics.PACKS.name) == {TENANT}
    assert labels_of(found, metrics.REPOSITORY_BYTES.name) == {TENANT}
    assert value(found, metrics.PACKS.name, tenant=TENANT) == 3
    sizes = [
        sum(f.stat().st_size for f in (repository_path(store.path, t) / "objects/pack").iterdir())
        for t in (TENANT, OTHER_TENANT)
    ]
    assert value(found, metrics.REPOSITORY_BYTES.name, tenant=TENANT) == sizes[0]
    assert value(found, metrics.STORE_BYTES.name) == sum(sizes)
    assert value(found, metrics.UNREADABLE.name) == 1
    assert value(found, metrics.TENANTS.name) == 3


def test_a_port_that_is_taken_is_an_error_of_one_setting(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = confkeep("exporter", "--port", str(port))
    assert done.exit_code == 2
    assert f"CONFKEEP_METRICS_PORT: cannot listen on port {port} of 127.0.0.1" in done.stderr


def test_each_worker_of_up_gets_a_port_of_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[str | None] = []
    monkeypatch.setattr(
        one_machine,
        "Child",
        lambda _command, env, **_: started.append(env["CONFKEEP_METRICS_PORT"]),
    )
    monkeypatch.setattr(one_machine.OneMachine, "environment", {})
    machine = one_machine.OneMachine(tmp_path, -1, 1, Interrupts())
    for port, wanted in (("0", ["0", "0"]), ("9101", ["9101", "9102"])):
        monkeypatch.setenv("CONFKEEP_METRICS_PORT", port)
        get_settings.cache_clear()
        started.clear()
        for index in range(2):
            machine.start_worker(index)
        assert started == wanted


def test_its_figures_go_on_after_what_nobody_foresaw(
    filled: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = StoreFigures(filled.path, stale_after_s=1, worst=1)
    stop, looks = threading.Event(), []
    look = StoreFigures.look

    def fail_once(self: StoreFigures) -> None:
        looks.append(1)
        if len(looks) == 1:
            raise RecursionError("nobody foresaw it")
        look(self)
        stop.set()

    monkeypatch.setattr(StoreFigures, "look", fail_once)
    figures.run(0.01, stop)
    assert list(figures.samples())
    monkeypatch.setattr(StoreFigures, "look", look)
    monkeypatch.setattr(deployment_figures, "list_inboxes", lambda *_: 1 / 0)
    found = scraped(confkeep)
    assert value(found, metrics.UP.name) == 0
    assert value(found, metrics.TENANTS.name) == 1, "the store's are there all the same"
