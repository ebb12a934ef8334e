"""Looking into another program's queue: bounded, and with anything in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable
from confkeep.settings import Settings
from worker.process.sweeper import Sweeper
from worker.queue import strays

BACKUP = {"tenant_id": "t", "device_id": "d"}


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with fakeredis.FakeRedis() as fake:
        yield fake


def message(task_id: str, task: str = "backups.receive", arguments: Any = BACKUP) -> str:
    body = base64.b64encode(json.dumps([[], arguments, {}]).encode()).decode()
    return json.dumps({"body": body, "headers": {"task": task, "id": task_id}})


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "no JSON",
        "[]",
        "7",
        "{}",
        '{"headers": null, "body": ""}',
        '{"headers": {"task": "backups.receive"}, "body": "not base64"}',
        "[" * 100_000,
        message("x", task="backups.received"),
        message("x", arguments=[]),
        message("x", arguments={"tenant_id": "t"}),
        message("x", arguments=7),
        json.dumps({"body": {}, "headers": {"task": "backups.receive", "id": "x"}}),
    ],
)
def test_what_is_no_backup_is_passed_over(client: redis.Redis, odd: str) -> None:
    for text in (message("1"), odd, message("2")):
        client.lpush(keys.DEFAULT_QUEUE, text)
    assert strays.find(client) == ["1", "2"]


def test_a_long_queue_is_looked_at_in_part(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        client.lpush(keys.DEFAULT_QUEUE, message(str(number)))
    assert strays.find(client) == [str(number) for number in range(20)]
    monkeypatch.setattr(strays, "_MOST_BYTES", 3 * len(message("0")) - 1)
    assert strays.find(client) == ["0", "1", "2"]


def test_a_key_that_is_no_queue_is_nothing(client: redis.Redis) -> None:
    client.set(keys.DEFAULT_QUEUE, "somebody else's")
    assert strays.find(client) == []
    assert strays.tell(client, 60) == 0


@pytest.mark.parametrize("look", [strays.find, lambda client: strays.tell(client, 60)])
def test_a_user_who_may_not_look_finds_nothing(look: Any) -> None:
    server = fakeredis.FakeServer()
    with fakeredis.FakeRedis(server=server) as client:

        def refuse(*_: Any, **__: Any) -> None:
            raise redis.exceptions.NoPermissionError("no")

        client.execute_command = refuse
        client.pipeline = refuse
        assert not look(client)


@pytest.mark.parametrize("look", [strays.find])
def test_a_server_that_is_away_is_not_an_empty_queue(look: Any) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    with fakeredis.FakeRedis(server=server) as client, pytest.raises(BrokerUnavailable):
        look(client)


def test_only_what_has_no_result_is_told_and_once(client: redis.Redis) -> None:
    client.set(keys.result("1"), "a receipt")
    for number in (1, 2):
        client.lpush(keys.DEFAULT_QUEUE, message(str(number)))
    assert [strays.tell(client, 60) for _ in range(2)] == [1, 0]
    assert client.get(keys.result("1")) == b"a receipt"
    record: Any = json.loads(client.get(keys.result("2")) or b"")
    assert (record["status"], record["result"]["exc_type"]) == ("FAILURE", "InvalidBackup")
    assert 0 < int(client.ttl(keys.result("2"))) <= 60


def test_one_worker_of_all_looks_and_not_at_each_sweep(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    for index in (0, 1):
        own = settings.model_copy(update={"worker_index": index, "worker_count": 2})
        sweeper = Sweeper(None, own, client, f"w{index}")
        monkeypatch.setattr(strays, "tell", lambda *_, index=index: looks.append(f"w{index}"))
        for _ in range(3):
            sweeper.sweep()
    assert looks == ["w0"]
