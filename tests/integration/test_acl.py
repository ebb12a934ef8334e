"""The rules of `confkeep acl` on the real server: what each user may, and that nothing else passes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import NotPermitted
from confkeep.settings import get_settings
from docs import generate
from tasks import enqueue_backup, enqueue_backups
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment
from worker.app import app
from worker.broker import acl
from worker.cli import cli
from worker.engine.events import read_events
from worker.process.local import EmbeddedServer

PASSWORD = "a password of the tests"
OWN, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
BACKUP = str(uuid.UUID(int=3))


def rules(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["acl", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def users(*roles: str) -> list[str]:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    return [text for role in roles for text in ("--user", f"{role}:{role}:{digest}")]


def write_rules(path: Path) -> None:
    """All roles, as a file; the tests' own clients stay the user `default`."""
    text = rules(*users(*acl.ROLES))
    lines = [line for line in text.splitlines() if line != acl.DEFAULT_OFF]
    path.write_text("\n".join(["user default on nopass ~* &* +@all", *lines, ""]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("acl")
    write_rules(folder / "users.acl")
    running = EmbeddedServer(folder / "server")
    running.start("--aclfile", str(folder / "users.acl"))
    yield running
    running.stop()


def url_of(server: EmbeddedServer, user: str) -> str:
    return f"unix://{user}:{PASSWORD.replace(' ', '%20')}@{server.socket}?db=0"


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    yield
    forget_environment()


@pytest.fixture
def owner(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        client.flushall()
        client.acl_log_reset()
        yield client


def as_user(server: EmbeddedServer, user: str) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(server.socket), username=user, password=PASSWORD, protocol=2
    )


def act_as(server: EmbeddedServer, user: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be a client with a user's name and password."""
    running = Deployment(path, server, {"CONFKEEP_REDIS_URL": url_of(server, user)})
    become_producer(running, monkeypatch)


def record_of(task_id: str) -> str:
    """A task's end, as Celery notes it."""
    ended = {"status": "SUCCESS", "result": 1, "traceback": None, "children": []}
    return json.dumps({**ended, "task_id": task_id})


def refusals(owner: redis.Redis) -> list[str]:
    found: Any = owner.acl_log()
    return [f"{entry['object']} in {entry['context']}" for entry in found]


def test_the_file_in_the_docs_is_what_the_command_prints() -> None:
    written = (generate.ROOT / "docs/deploy/users.acl").read_text("utf-8")
    assert written == rules(), "run `confkeep acl -o docs/deploy/users.acl`"
    assert written.startswith("user default reset off\n")
    assert " on " not in written, "no user without a password"


def test_the_oldest_server_that_the_page_names_knows_every_word(owner: Any) -> None:
    """One word that it does not know, and it does not start."""
    named = set(re.findall(r"(?<=[ (])[+-]([a-z]+(?:\|[a-z]+)?)(?=[\s)])", rules()))
    assert {"client|tracking", "get", "zrange"} <= named
    for name in named:
        [facts] = owner.execute_command("COMMAND DOCS", name).values()
        since = facts.get("since", facts.get(b"since"))
        assert tuple(map(int, re.findall(r"\d+", str(since)))) <= (7, 0, 0), name


def test_a_typo_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    written = tmp_path / "users.acl"
    done = CliRunner().invoke(cli, ["acl", *users("monitor", "worker"), "-o", str(written)])
    assert done.exit_code == 0
    assert written.read_text() == rules(*users("monitor", "worker"))
    before = written.read_bytes()
    for typo in (["--user", "wroker:x"], ["--usr", "worker:x"]):
        arguments = [*users("monitor"), *typo]
        done = CliRunner().invoke(cli, ["acl", *arguments, "-o", str(written)])
        assert done.exit_code == 2
        assert written.read_bytes() == before
        assert "user " not in CliRunner().invoke(cli, ["acl", *arguments]).stdout


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "users.acl", tmp_path / "link.acl"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    done = CliRunner().invoke(cli, ["acl", "-o", str(link)])
    assert done.exit_code == 0
    assert link.is_symlink()
    assert real.read_text() == rules()
    assert real.stat().st_mode & 0o777 == 0o640


def test_nothing_takes_the_place_of_what_is_no_file(tmp_path: Path) -> None:
    """As root, `-o /dev/stdout` would else leave a file there for the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = CliRunner().invoke(cli, ["acl", "-o", str(pipe)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "must be a file" in done.stderr
    assert pipe.is_fifo()


def test_a_trusted_producer_enqueues_and_waits_for_the_receipt(
    server: EmbeddedServer,
    owner: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act_as(server, "worker", tmp_path, monkeypatch)
    first = enqueue_backup(OWN, OTHER, "/ip\n", b"x", "m")
    many = enqueue_backups(
        {"tenant_id": OWN, "device_id": OTHER, "export_text": f"/ip {n}", "message": "m"}
        for n in range(3)
    )
    again = enqueue_backup(OWN, OTHER, "/ip\n", b"x", "m", backup_id=first.id)
    assert again.id == first.id
    sent = app.send_task("backups.receive", queue=keys.RECEIVE_QUEUE, kwargs={}, kwargsrepr="")
    # As clients do that have settings of their own.
    plain = Celery("plain", broker=app.conf.broker_url, set_as_current=False)
    plain.send_task("backups.receive", queue=keys.RECEIVE_QUEUE, priority=5)
    with as_user(server, "worker") as client:
        client.setnx(keys.handoff(OWN, BACKUP), b"bytes")
    assert owner.llen(keys.queue_of(OWN, 16)) == 1, "one wake-up for all"
    assert owner.xlen(keys.inbox(OWN)) == 1 + len(many)
    # What a worker does when it is done.
    for result in (first, *many, sent):
        record = record_of(result.id)
        owner.set(keys.result(result.id), record)
        owner.publish(keys.result(result.id), record)
        assert result.get(timeout=10) == 1
    assert refusals(owner) == []


def test_who_waits_in_vain_is_told_that_no_worker_answers(
    server: EmbeddedServer, owner: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(server, "worker", tmp_path, monkeypatch)
    export = tmp_path / "r1.rsc"
    export.write_text("/ip\n")
    arguments = ["enqueue", OWN, OTHER, "--export", str(export), "--message", "m", "--wait"]
    done = CliRunner().invoke(cli, [*arguments, "--timeout", "0.1"])
    assert "no worker answered for 0.1 s" in done.stderr
    owner.hset(keys.backoff(OWN), mapping={"tries": 1, "since_ms": 1, "next_ms": 1, "reason": "x"})
    done = CliRunner().invoke(cli, [*arguments, "--timeout", "0.1"])
    assert "The last commit failed: x" in done.stderr


def test_who_may_only_look_cannot_enqueue(
    server: EmbeddedServer, owner: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(server, "monitor", tmp_path, monkeypatch)
    with pytest.raises(NotPermitted) as refused:
        enqueue_backup(OWN, OTHER, "/ip\n", b"x", "m")
    assert "confkeep acl" in refused.value.hint
    assert PASSWORD not in str(refused.value)
    assert owner.keys() == []


#: What shows bytes that wait, messages, or other users, as commands.
READING = [
    ("GET", keys.staged(OTHER, BACKUP)),
    ("GETRANGE", keys.staged(OTHER, BACKUP), "0", "9"),
    ("GETDEL", keys.staged(OTHER, BACKUP)),
    ("SET", keys.staged(OTHER, BACKUP), "x", "GET"),
    ("DUMP", keys.staged(OTHER, BACKUP)),
    ("COPY", keys.staged(OTHER, BACKUP), keys.result("x")),
    ("GET", keys.handoff(OTHER, BACKUP)),
    ("LRANGE", keys.RECEIVE_QUEUE, "0", "-1"),
    ("RPOP", keys.RECEIVE_QUEUE),
    ("BRPOP", keys.shard_queue(0), "1"),
    ("HGETALL", "unacked"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("MONITOR",),
    ("PSUBSCRIBE", "*"),
    ("SUBSCRIBE", "/0.celery.pidbox"),
    ("CLIENT", "LIST"),
    ("CLIENT", "TRACKING", "ON", "BCAST"),
]
CHANGING = [
    *(
        (command, name, *arguments)
        for name in (
            keys.handoff(OWN, BACKUP),
            keys.staged(OWN, BACKUP),
            keys.result(BACKUP),
        )
        for command, *arguments in (
            ("SET", "x"),
            ("SET", "x", "NX"),
            ("GETSET", "x"),
            ("GETDEL",),
            ("GETEX", "PX", "1"),
            ("SETEX", "1", "x"),
            ("APPEND", "x"),
            ("SETRANGE", "0", "x"),
            ("SETBIT", "0", "1"),
            ("MSET", "x"),
            ("INCR",),
            ("DEL",),
            ("EXPIRE", "1"),
            ("PERSIST",),
        )
    ),
    ("SETNX", keys.staged(OWN, str(uuid.UUID(int=4))), "x"),
    ("SETNX", keys.result("planted"), "x"),
    ("HINCRBY", keys.LOAD, "entries", "1"),
    ("HINCRBY", keys.TOTALS, "enqueued", "1"),
    ("SET", keys.wake(OWN), "x"),
    ("HDEL", keys.backoff(OWN), "tries"),
    ("XADD", keys.inbox(OWN), "*", "entry", "planted"),
    ("XADD", keys.inbox(OTHER), "*", "entry", "planted"),
    ("XADD", keys.inbox(OTHER), "MAXLEN", "0", "*", "entry", "x"),
    ("HDEL", keys.DEAD, BACKUP),
    ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"),
    ("FCALL", "f", "0"),
    ("SET", keys.lock(OTHER), "mine", "NX"),
    ("DEL", keys.lock(OTHER)),
    ("DEL", keys.inbox(OTHER)),
    ("DEL", keys.staged(OTHER, BACKUP)),
    ("UNLINK", keys.staged(OTHER, BACKUP)),
    ("EXPIRE", keys.staged(OTHER, BACKUP), "1"),
    ("RENAME", keys.staged(OTHER, BACKUP), keys.result("x")),
    ("XDEL", keys.inbox(OTHER), "1-1"),
    ("XTRIM", keys.inbox(OTHER), "MAXLEN", "0"),
    ("ZREM", keys.WAITING, OTHER),
    ("DEL", keys.LOAD),
    ("HSET", keys.DEAD, BACKUP, "x"),
    ("DEL", keys.DEAD),
    ("HSET", keys.WORKERS, "w", "{}"),
    ("HSET", keys.backoff(OTHER), "tries", "9"),
    ("DEL", keys.result(BACKUP)),
    ("DEL", keys.shard_queue(0)),
    ("LTRIM", keys.RECEIVE_QUEUE, "1", "0"),
    ("RPUSH", keys.RECEIVE_QUEUE, "x"),
    ("PUBLISH", "/0.celery.pidbox", "{}"),
    ("PUBLISH", keys.result(BACKUP), "{}"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"),
]
#: What only the server's owner may do.
SERVER = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "x"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN",),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "NO", "ONE"),
    ("SET", "somebody elses key", "x"),
]
#: Messages and bytes for them: with these anybody may enqueue for every tenant.
SENDING = [
    ("LPUSH", keys.shard_queue(0), "x"),
    ("LPUSH", keys.RECEIVE_QUEUE, "x"),
    ("SADD", "_kombu.binding.backups.receive", "x"),
    ("HSET", keys.UNACKED, "tag", "x"),
    ("ZADD", keys.UNACKED_INDEX, "0", "tag"),
    ("SETNX", keys.handoff(OWN, str(uuid.UUID(int=4))), "x"),
    ("XADD", keys.REFUSED, "*", "a", "b"),
]


def assert_refused(client: redis.Redis, *command: str) -> None:
    try:
        answer: Any = client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.exceptions.NoPermissionError:
        return
    raise AssertionError(f"{command} was allowed: {answer!r}")


@pytest.fixture
def full(owner: redis.Redis) -> redis.Redis:
    """A server where there is something to steal and to spoil."""
    for tenant in (OWN, OTHER):
        for name in (keys.staged, keys.handoff):
            owner.set(name(tenant, BACKUP), b"secret")
        owner.xadd(keys.inbox(tenant), {"entry": "real"})
    owner.set(keys.result(BACKUP), "record")
    owner.hset(keys.DEAD, BACKUP, "letter")
    owner.lpush(keys.RECEIVE_QUEUE, "message")
    return owner


def test_a_monitor_changes_nothing_and_reads_no_bytes(
    server: EmbeddedServer, full: redis.Redis
) -> None:
    before = everything(full)
    with as_user(server, "monitor") as client:
        for command in (*READING, *CHANGING, *SENDING, *SERVER):
            assert_refused(client, *command)
    assert everything(full) == before


def everything(owner: redis.Redis) -> dict[bytes, bytes]:
    names: Any = owner.keys("*")
    return {name: owner.dump(name) for name in names}  # type: ignore[misc]


def test_a_monitor_sees_what_status_and_exporter_show(
    server: EmbeddedServer, full: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.delete(keys.DEAD)
    full.hset(keys.LOAD, "entries", 1)
    full.zadd(keys.WAITING, {OWN: 1})
    full.hset(keys.backoff(OWN), mapping={"tries": 1, "since_ms": 1, "next_ms": 1, "reason": "x"})
    act_as(server, "monitor", tmp_path, monkeypatch)
    for arguments in (
        ["status"],
        ["status", "--json"],
        ["status", "--watch", "--count", "2", "--interval", "0.2"],
        ["exporter", "--once"],
        ["dead-letters", "list"],
    ):
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert refusals(full) == [], arguments
    assert "confkeep_up 1.0" in CliRunner().invoke(cli, ["exporter", "--once"]).stdout
    full.xadd(keys.EVENTS, {"event": "{}"})
    (tmp_path / "store").mkdir()
    page = read_events(get_client(), get_settings(), tmp_path / "store", None, wait_s=0.05)
    assert page.events == []
    assert refusals(full) == []


def test_a_worker_does_nothing_to_the_server(server: EmbeddedServer, owner: redis.Redis) -> None:
    with as_user(server, "worker") as client:
        for command in SERVER:
            assert_refused(client, *command)
        assert client.info("server")


def test_a_rule_cannot_be_smuggled_in() -> None:
    for given in ("worker:a b", "worker:x:nopass", "worker:", "producer:x", "worker:x:#"):
        done = CliRunner().invoke(cli, ["acl", "--user", given])
        assert done.exit_code == 2, given
        assert "+@all" not in done.stdout
