"""CONFKEEP_REPLICAS: what an enqueue accepted is on a replica, and a failover loses nothing of it."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from confkeep import enqueue
from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, TooFewReplicas
from confkeep.models import BackupFields
from confkeep.settings import load_settings
from tasks import enqueue_backup, enqueue_backups
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import backup_ids
from tests.replicated import SERVICE, Node, follows, master_of, nodes, sentinels
from tests.servers import Deployment, wait_for
from worker.broker import acl
from worker.process.broker_check import check

TENANT, DEVICE = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
PASSWORD = "a password of the tests"


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    yield
    forget_environment()


@dataclass(frozen=True)
class Pair:
    """A master, of which this process is a producer, and its replica."""

    master: Node
    replica: Node


@pytest.fixture(params=["default", "worker"])
def pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    user = acl.User("portal", hashlib.sha256(PASSWORD.encode()).hexdigest())
    with nodes(tmp_path, 1, acl.worker(user)) as (master, replica):
        url = master.url
        if request.param == "worker":
            url = url.replace("//", f"//portal:{PASSWORD.replace(' ', '%20')}@")
        variables = {
            "CONFKEEP_REDIS_URL": url,
            "CONFKEEP_REPLICAS": "1",
            "CONFKEEP_REDIS_TIMEOUT_S": "1",
        }
        become_producer(Deployment(tmp_path, master.server, variables), monkeypatch)
        yield Pair(master, replica)


def waiting_in(node: Node) -> int:
    with node.client() as client:
        length: Any = client.xlen(keys.inbox(TENANT))
    return int(length)


def test_an_enqueue_returns_when_the_replica_has_it(pair: Pair) -> None:
    enqueue_backup(TENANT, DEVICE, "/ip", b"x", "m")
    assert waiting_in(pair.replica) == 1
    # The mark that is waited for leaves nothing.
    with pair.replica.client() as client:
        assert not client.exists(keys.MARK)

    # The replica is on its way to be the master: from now on it hears nothing of what is accepted.
    pair.replica.follow(None)
    backup_id = str(uuid.uuid4())

    def once_more() -> None:
        enqueue_backup(TENANT, DEVICE, "/ip/address", None, "m", backup_id=backup_id)

    # A repetition writes nothing, and must wait all the same, also on a connection that wrote nothing yet.
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(TooFewReplicas, match="1 replica to confirm it, and 0 did") as raised:
            once_more()
        assert time.monotonic() - began < 5
        assert isinstance(raised.value, BrokerUnavailable)
        assert "CONFKEEP_REPLICAS" in raised.value.hint
        get_client().connection_pool.disconnect()
    assert waiting_in(pair.replica) == 1

    pair.replica.follow(pair.master)
    once_more()
    assert waiting_in(pair.replica) == waiting_in(pair.master) == 2


def test_a_replica_that_hangs_answers_for_nothing(pair: Pair) -> None:
    """It is connected, so that WAIT counts it on a connection that wrote nothing."""
    backup_id = str(uuid.uuid4())

    def once_more() -> None:
        enqueue_backup(TENANT, DEVICE, "/ip", None, "m", backup_id=backup_id)

    os.kill(pair.replica.server.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(TooFewReplicas):
                once_more()
            get_client().connection_pool.disconnect()
    finally:
        os.kill(pair.replica.server.pid, signal.SIGCONT)
    wait_for(lambda: follows(pair.replica.client()), "the replica")
    once_more()
    assert waiting_in(pair.replica) == 1


def test_a_call_of_many_waits_once_for_each_round_trip(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_CHUNK_BACKUPS", 50)

    def waits() -> int:
        with pair.master.client() as client:
            stats: Any = client.info("commandstats")
            return int(stats.get("cmdstat_wait", {"calls": 0})["calls"])

    enqueue_backup(TENANT, DEVICE, "/ip", b"x", "m")
    before = waits()
    enqueue_backups(
        {"tenant_id": TENANT, "device_id": DEVICE, "export_text": f"/{n}", "message": "m"}
        for n in range(200)
    )
    assert waiting_in(pair.replica) == 201
    assert waits() - before == 4


def test_what_was_accepted_before_is_told_only_when_the_replica_has_it(pair: Pair) -> None:
    """By a producer that does not ask for replicas, such as one of another release."""
    pair.replica.follow(None)
    backup: BackupFields = {
        "tenant_id": TENANT,
        "device_id": DEVICE,
        "export_text": "/ip",
        "message": "m",
        "backup_id": str(uuid.uuid4()),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFKEEP_REPLICAS", "0")
        forget_environment()
        enqueue_backups([backup])
    forget_environment()
    with pytest.raises(TooFewReplicas):
        enqueue_backups([backup])
    assert waiting_in(pair.master) == 1


def test_a_worker_tells_at_its_start_what_a_failover_may_lose(pair: Pair) -> None:
    with pair.master.client() as client:
        for replicas, said in ((0, "may lose"), (1, None), (2, "no enqueue is accepted")):
            problems = check(client, load_settings(replicas=replicas))
            assert (problems == []) == (said is None)
            assert said is None or said in problems[0]


class Load:
    """Threads that enqueue, and repeat what has an unknown outcome, until each is accepted."""

    def __init__(self, tenants: list[str], burst: int) -> None:
        self.burst = burst
        self._stop = threading.Event()
        #: By tenant, the ids in the order in which their enqueues returned.
        self.accepted: dict[str, list[str]] = {tenant: [] for tenant in tenants}
        self.unknown = 0
        self.tries = 0
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in tenants]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def count(self) -> int:
        return sum(map(len, self.accepted.values()))

    def goes_on(self) -> None:
        """Wait until many more are accepted."""
        at = self.count()
        wait_for(lambda: self.count() > at + self.burst, "the load", 60)

    def _run(self, tenant: str) -> None:
        while not self._stop.is_set():
            backup_id, text = str(uuid.uuid4()), f"/system identity\nset name={uuid.uuid4()}\n"
            while True:
                self.tries += 1
                try:
                    enqueue_backup(tenant, DEVICE, text, b"x", "m", backup_id=backup_id)
                except BrokerUnavailable:
                    self.unknown += 1
                    # The last one too: who is told nothing must not be counted.
                    if self._stop.wait(0.05):
                        return
                else:
                    self.accepted[tenant].append(backup_id)
                    break


def lost_in_failovers(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail_over: Callable[[list[Node], list[int], Load], None],
    *,
    times: int = 1,
    replicas: int = 1,
    wanted: int | None = None,
    watchers: int = 3,
    burst: int = 100,
    works_beside: bool = False,
) -> tuple[int, Load]:
    """How many accepted backups are not in git after planned failovers under load.

    Args:
        works_beside: a worker commits all the time. Else it comes when all is over: what it committed
            before a failover would hide that the failover loses it.
    """
    tenants = [str(uuid.uuid4()) for _ in range(4)]
    with (
        nodes(path, replicas) as servers,
        sentinels(path, servers[0], watchers, replicas=replicas) as ports,
    ):
        hosts = ";".join(f"sentinel://127.0.0.1:{port}" for port in ports)
        variables = {
            "CONFKEEP_REDIS_URL": f"{hosts}/0?master_name={SERVICE}",
            "CONFKEEP_REPLICAS": str(replicas if wanted is None else wanted),
            "CONFKEEP_REDIS_TIMEOUT_S": "1",
        }
        deployed = Deployment(path, servers[0].server, variables)
        become_producer(deployed, monkeypatch)
        try:
            if works_beside:
                deployed.start_worker("beside", concurrency=2)
            with Load(tenants, burst) as load:
                for _ in range(times):
                    load.goes_on()
                    fail_over(servers, ports, load)
                    load.goes_on()
            new = master_of(ports[0])
            deployed.server = next(node.server for node in servers if node.port == new)
            deployed.start_worker(concurrency=2)
            client = get_client()
            wait_for(lambda: not client.zcard(keys.WAITING), "the worker", 120)
            for one in (each for ids in load.accepted.values() for each in ids):
                record: Any = client.get(keys.result(one))
                assert b'"status":"SUCCESS"' in (record or b"")
        finally:
            deployed.stop()
    lost = 0
    for tenant, ids in load.accepted.items():
        kept = backup_ids(path / "store" / f"{tenant}.git")
        assert len(set(kept)) == len(kept)
        accepted, there = set(ids), set(kept)
        assert [one for one in kept if one in accepted] == [one for one in ids if one in there]
        lost += len(accepted - there)
    return lost, load


def by_hand(servers: list[Node], ports: list[int], load: Load) -> None:
    """As sentinels do it: promote, some time later tell clients, and let the old master follow."""
    old, new = servers
    new.follow(None)
    at = load.tries
    wait_for(lambda: load.tries > at + 8, "the load on the old master")
    with redis.Redis(port=ports[0]) as sentinel:
        sentinel.sentinel_remove(SERVICE)
        sentinel.sentinel_monitor(SERVICE, "127.0.0.1", new.port, 1)
    old.follow(new)
    with old.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)


def by_sentinels(servers: list[Node], ports: list[int], load: Load) -> None:
    """`SENTINEL FAILOVER`, until the old master follows the new one."""
    wait_for(lambda: len({master_of(port) for port in ports}) == 1, "the sentinels to agree", 60)
    before = master_of(ports[0])

    def begun() -> bool:
        with redis.Redis(port=ports[0]) as sentinel:
            try:
                return bool(sentinel.sentinel_failover(SERVICE))
            except redis.ResponseError as error:
                # A sentinel on a busy machine has not heard of the replica for a while.
                if "NOGOODSLAVE" not in str(error):
                    raise
                return False

    wait_for(begun, "a replica that the sentinels take for good", 60)
    wait_for(lambda: all(master_of(port) != before for port in ports), "the new master", 60)

    def all_follow() -> bool:
        new = master_of(ports[0])
        for node in servers:
            with node.client() as client:
                if node.port != new and not follows(client):
                    return False
        return True

    wait_for(all_follow, "the old master to follow", 60)


def test_a_planned_failover_loses_nothing_that_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, load = lost_in_failovers(tmp_path, monkeypatch, by_hand, watchers=1, burst=30)
    assert load.count()
    assert load.unknown
    assert lost == 0


@pytest.mark.chaos
@pytest.mark.parametrize(("replicas", "works_beside"), [(1, False), (2, False), (1, True)])
def test_three_planned_failovers_under_load_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replicas: int, works_beside: bool
) -> None:
    lost, load = lost_in_failovers(
        tmp_path,
        monkeypatch,
        by_sentinels,
        times=3,
        replicas=replicas,
        burst=100 if works_beside else 700,
        works_beside=works_beside,
    )
    print(f"{load.count()} accepted, {load.unknown} times unknown, {lost} lost")
    assert load.count() >= (1_000 if works_beside else 4_000)
    assert load.unknown
    assert lost == 0
