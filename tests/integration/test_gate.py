"""Whatever lies in a queue: no worker ends over it, nothing waits behind it, and what is refused is told."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.errors import InvalidBackup, MessageRefused
from tasks import enqueue_backup
from tests.hostile_messages import DEVICE, TARGETS, TENANTS, Hostile, bombs
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.cli import cli
from worker.process.local import Child
from worker.queue import refused

#: Most seconds that a backup waits behind hostile messages, where the test has the machine to itself.
_BAR_S = 1.0
#: Most seconds beside other tests.
_MOST_S = 20.0
_MOST_MIB = 600
_AT_ONCE = 25
_MANY = pytest.mark.chaos, pytest.mark.alone, pytest.mark.timeout(3_000)


def rss_mib(worker: Child) -> int:
    """The most memory that a worker's main process and its children have had, each at its worst."""
    pids = [worker.pid]
    for task in Path(f"/proc/{worker.pid}/task").iterdir():
        # A thread may end meanwhile; it had no child then.
        with contextlib.suppress(FileNotFoundError):
            pids += [int(pid) for pid in (task / "children").read_text().split()]
    most = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        most += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return most // 1024


def plant_unacked(client: redis.Redis, hostile: Hostile) -> None:
    """What a worker that died may have left behind, and what nobody can have left."""
    odd = [
        b"x",
        b"[" * 50_000,
        b"[]",
        b"null",
        b"[1,2,3]",
        b"[{},null,5]",
        b'[{"headers":1}]',
        b"\xff",
    ]
    odd += [json.dumps([hostile.odd(), "", "backups.receive"]).encode() for _ in range(20)]
    for queue, raw in itertools.islice(hostile.messages(60), 60):
        odd += [
            b"[" + raw + b',"","' + queue.encode() + b'"]',
            b"[" + raw + b',"x","backups.receive"]',
        ]
    for number, text in enumerate(odd):
        tag = b"\xfe tag %d" % number
        client.hset(keys.UNACKED, tag, text)
        client.zadd(keys.UNACKED_INDEX, {tag: number})
    client.zadd(keys.UNACKED_INDEX, {b"of nothing": 0, b"\xff": 5})
    for name in ("_kombu.binding.backups.receive", "_kombu.binding_permanent.backups.receive"):
        client.sadd(name, b"\xff", "garbage", f"\x06\x16\x06\x16{keys.LOAD}")


def probe(client: redis.Redis, queue_too: bool) -> list[float]:
    """Seconds until a backup is committed that comes behind all that lies there, by each way."""
    waits = []
    began = time.monotonic()
    results: list[AsyncResult] = [
        enqueue_backup(TENANTS[0], DEVICE, f"/{uuid.uuid4()}", None, "probe")
    ]
    if queue_too:
        given = {"tenant_id": TENANTS[1], "device_id": DEVICE, "message": "probe"}
        given["export_text"] = f"/{uuid.uuid4()}"
        results.append(app.send_task("backups.receive", kwargs=given, queue=keys.RECEIVE_QUEUE))
    for result in results:
        name = keys.result(result.id)
        wait_for(lambda name=name: b'"SUCCESS"' in (client.get(name) or b""), "a probe", _MOST_S)  # type: ignore[misc]
        waits.append(time.monotonic() - began)
    return waits


@pytest.mark.parametrize(
    ("pool", "number", "unpacked_mib", "most_s"),
    [
        pytest.param("prefork", 150, 50, _MOST_S),
        pytest.param("threads", 150, 50, _MOST_S),
        pytest.param("solo", 150, 50, _MOST_S),
        pytest.param("prefork", 20_000, 2_500, _BAR_S, marks=_MANY, id="prefork-many"),
        pytest.param("threads", 20_000, 2_500, _BAR_S, marks=_MANY, id="threads-many"),
        pytest.param("solo", 20_000, 2_500, _BAR_S, marks=_MANY, id="solo-many"),
    ],
)
def test_no_message_ends_a_worker_or_keeps_others_waiting(
    deployed: Deployment, pool: str, number: int, unpacked_mib: int, most_s: float
) -> None:
    seed = int(os.environ.get("CONFKEEP_TEST_SEED", "1"))
    hostile = Hostile(seed, bombs(unpacked_mib))
    waits: list[float] = []
    with deployed.client() as client:
        plant_unacked(client, hostile)
        worker = deployed.start_worker(concurrency=2, pool=pool)
        probe(client, queue_too=True)
        before = rss_mib(worker)
        stream: Iterator[tuple[str, bytes]] = hostile.messages(number)
        for count in itertools.count():
            batch = list(itertools.islice(stream, _AT_ONCE))
            if not batch:
                break
            for queue, raw in batch:
                client.lpush(queue, raw)
            if count % 4 == 0:
                waits += probe(client, queue_too=count % 8 == 0)
            queues = {queue for queue, _raw in batch}
            wait_for(lambda queues=queues: not client.exists(*queues), "the queues", _MOST_S)  # type: ignore[misc]
            assert worker.running(), (
                f"message {count * _AT_ONCE}: {deployed.log.read_text()[-3000:]}"
            )
        waits += probe(client, queue_too=True)
        after = rss_mib(worker)
        kept, total = refused.count(client), int(client.hget(keys.TOTALS, "refused") or 0)
        types = {name: client.type(name) for name in (keys.LOAD, keys.DEAD, *TARGETS)}
        planted = [tag for tag in client.hkeys(keys.UNACKED) if tag.startswith(b"\xfe")]
    waits.sort()
    print(
        f"{pool}, seed {seed}: {number} messages, {total} refused, {kept} kept; {len(waits)} probes: "
        f"median {waits[len(waits) // 2]:.3f} s, worst {waits[-1]:.3f} s; "
        f"memory at its worst {before} -> {after} MiB"
    )
    text = deployed.log.read_text()
    for line in ("Connection to broker lost", "Restart", "WorkerLostError", "UNABLE TO RESTORE"):
        assert line not in text
    assert text.count(" ready.") == 1, "the consumer began once"
    assert total > number // 2
    assert kept <= refused.MOST
    assert not planted
    assert types[keys.LOAD] in (b"none", b"hash")
    assert all(types[name] in (b"none", b"hash", b"stream") for name in TARGETS)
    assert after - before < _MOST_MIB
    assert waits[-1] < most_s


def confkeep(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_is_refused_is_told_to_its_sender_and_shown_to_a_person(deployed: Deployment) -> None:
    deployed.variables["CONFKEEP_LOG_FORMAT"] = "json"
    secret = "a text of the tests that no log may hold"
    given = {"tenant_id": TENANTS[0], "device_id": DEVICE, "message": "m", "export_text": secret}

    def send(**options: Any) -> AsyncResult:
        return app.send_task("backups.receive", queue=keys.RECEIVE_QUEUE, **options)

    with deployed.client() as client:
        deployed.start_worker(pool="threads")
        commit_task = app.signature("backups.commit_inbox", args=(TENANTS[1],))
        linked = send(kwargs=given, link=commit_task.set(queue=keys.LOAD), kwargsrepr=secret)
        with pytest.raises(MessageRefused, match="embed: must be empty"):
            linked.get(timeout=30)
        client.lpush(keys.RECEIVE_QUEUE, secret)
        wait_for(lambda: refused.count(client) == 2, "the second")
        assert client.type(keys.LOAD) == b"none"

        # What no backup has is a declared error, too.
        for options in ({"args": [1], "kwargs": given}, {"kwargs": {**given, "self": 1}}):
            with pytest.raises(InvalidBackup):
                send(**options).get(timeout=30)
        # A plain client's own settings: its priorities are lists of their own.
        plain = Celery("plain", broker=app.conf.broker_url, set_as_current=False)
        again = str(uuid.uuid4())
        plain.send_task(
            "backups.receive", queue="backups.receive", kwargs=given, priority=9, task_id=again
        )
        assert app.AsyncResult(again).get(timeout=30)["tenant_id"] == TENANTS[0]

    assert "Refused messages: 4" in confkeep("status")
    assert json.loads(confkeep("status", "--json"))["refused_messages"] == 4
    listed = json.loads(confkeep("refused", "list", "--json"))["refused"]
    assert [one["task_id"] for one in listed[:2]] == [linked.id, ""]
    assert [one["task"] for one in listed] == ["backups.receive", "", *["backups.receive"] * 2]
    assert "must be JSON in UTF-8" in confkeep("refused", "list")
    last = listed[1]["refused_id"]
    assert secret not in confkeep("refused", "show", last) + confkeep("refused", "list")
    assert confkeep("refused", "show", last, "--message").strip() == secret
    assert "1 refused message discarded." in confkeep("refused", "discard", last)
    assert "3 refused messages discarded." in confkeep("refused", "discard", "--all")
    assert "No refused messages." in confkeep("refused", "list")
    text = deployed.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if '"message.refused"' in line]
    assert [line["refused_id"] for line in lines] == [one["refused_id"] for one in listed]
    assert secret not in text


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_no_task_of_a_sender_takes_the_place_of_anothers_receipt(
    deployed: Deployment, pool: str
) -> None:
    deployed.start_worker(pool=pool)
    victim = enqueue_backup(TENANTS[0], DEVICE, "/ip", None, "m")
    receipt = victim.get(timeout=30)
    other = enqueue_backup(TENANTS[1], DEVICE, "/ip", None, "m")
    other.get(timeout=30)
    given = {"tenant_id": TENANTS[1], "device_id": DEVICE, "message": "m", "export_text": "/ip"}

    def send(task: str, *args: Any, **kwargs: Any) -> None:
        mine = task == "backups.receive"
        queue = keys.RECEIVE_QUEUE if mine else keys.queue_of(TENANTS[0], 16)
        app.send_task(task, args, kwargs, queue=queue, task_id=victim.id)

    with deployed.client() as client:
        name = keys.result(victim.id)
        whole = client.get(name)
        waiting = json.loads(whole) | {"status": "PENDING", "result": None}
        for record in (json.dumps(waiting).encode(), whole):
            client.set(name, record, ex=5_000)
            send("backups.history", TENANTS[0], DEVICE)
            send("backups.read_file", TENANTS[0], "HEAD", DEVICE, "export.rsc")
            send("backups.verify", TENANTS[0])
            send("backups.verify", "no tenant")
            send("backups.unknown")
            send("backups.receive", **given, backup_id=other.id)
            send("backups.receive", **{**given, "export_text": "/another"})
            send("backups.receive", 5)
            wait_for(
                lambda: not client.exists(keys.RECEIVE_QUEUE, keys.UNACKED, *_queues()), "all tasks"
            )
            assert client.get(name) == record
            assert client.ttl(name) > 4_000
    assert victim.get(timeout=30) == receipt


def _queues() -> list[str]:
    return [keys.shard_queue(shard) for shard in range(16)]
