"""The rules of `confkeep acl` on the real server: what each user may, and that nothing else passes."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from docs import generate
from tasks import enqueue_backup, enqueue_backups
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment
from worker import acl, keys
from worker.app import app
from worker.cli import cli
from worker.local import EmbeddedServer

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
    text += rules(*users("producer"), "--tenant", OWN).replace("user producer", "user tenants")
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
    assert written == rules(), "run `confkeep acl > docs/deploy/users.acl`"
    assert written.startswith("user default reset off\n")
    assert " on " not in written, "no user without a password"


@pytest.mark.parametrize("user", ["producer", "tenants"])
def test_a_producer_enqueues_and_waits_for_the_receipt(
    server: EmbeddedServer,
    owner: redis.Redis,
    user: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    act_as(server, user, tmp_path, monkeypatch)
    first = enqueue_backup(OWN, OTHER, "/ip\n", b"x", "m")
    many = enqueue_backups(
        {"tenant_id": OWN, "device_id": OTHER, "export_text": f"/ip {n}", "message": "m"}
        for n in range(3)
    )
    again = enqueue_backup(OWN, OTHER, "/ip\n", b"x", "m", backup_id=first.id)
    sent = app.send_task("backups.receive", queue=keys.RECEIVE_QUEUE, kwargs={}, kwargsrepr="")
    assert again.id == first.id
    assert [owner.xlen(keys.inbox(OWN)), owner.llen(keys.RECEIVE_QUEUE)] == [1 + len(many), 1]
    # What a worker does when it is done.
    for result in (first, *many, sent):
        record = record_of(result.id)
        owner.set(keys.result(result.id), record)
        owner.publish(keys.result(result.id), record)
        assert result.get(timeout=10) == 1
    assert refusals(owner) == []


def test_a_sender_sends_and_waits_for_the_receipt(
    server: EmbeddedServer, owner: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(server, "sender", tmp_path, monkeypatch)
    sent = app.send_task("backups.receive", queue=keys.RECEIVE_QUEUE, kwargs={}, kwargsrepr="")
    with as_user(server, "sender") as client:
        client.set(keys.handoff(OWN, BACKUP), b"bytes")
    owner.set(keys.result(sent.id), record_of(sent.id))
    assert sent.get(timeout=10) == 1
    assert refusals(owner) == []


#: What neither a producer nor a sender may do, as commands.
READING = [
    ("GET", keys.staged(OTHER, BACKUP)),
    ("GET", keys.staged(OWN, BACKUP)),
    ("GETRANGE", keys.staged(OTHER, BACKUP), "0", "9"),
    ("GETDEL", keys.staged(OTHER, BACKUP)),
    ("SET", keys.staged(OTHER, BACKUP), "x", "GET"),
    ("DUMP", keys.staged(OTHER, BACKUP)),
    ("COPY", keys.staged(OTHER, BACKUP), keys.result("x")),
    ("GET", keys.handoff(OTHER, BACKUP)),
    ("XRANGE", keys.inbox(OTHER), "-", "+"),
    ("XREAD", "STREAMS", keys.inbox(OTHER), "0"),
    ("HGETALL", keys.DEAD),
    ("HGET", keys.DEAD, BACKUP),
    ("HGETALL", keys.LOAD),
    ("ZRANGE", keys.WAITING, "0", "-1"),
    ("HGETALL", keys.WORKERS),
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
]
CHANGING = [
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
#: A sender may not even do what a producer's script does.
INBOX = [
    ("XADD", keys.inbox(OTHER), "*", "entry", "planted"),
    ("XADD", keys.inbox(OTHER), "MAXLEN", "0", "*", "entry", "x"),
    ("SET", keys.staged(OTHER, BACKUP), "x"),
    ("SET", keys.result(BACKUP), "x"),
    ("EVAL", "return 1", "0"),
    ("EVALSHA", "0" * 40, "0"),
    ("HDEL", keys.DEAD, BACKUP),
    ("LPUSH", keys.shard_queue(0), "x"),
]
ALL = READING + CHANGING + SERVER
#: How a script is refused: by the rules, or because no script may do that.
_REFUSED = r"ACL failure in script|not allowed from script"


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
        owner.set(keys.staged(tenant, BACKUP), b"secret")
        owner.xadd(keys.inbox(tenant), {"entry": "real"})
    owner.hset(keys.DEAD, BACKUP, "letter")
    owner.lpush(keys.RECEIVE_QUEUE, "message")
    return owner


@pytest.mark.parametrize(
    ("user", "commands"),
    [
        ("producer", ALL),
        ("tenants", ALL),
        ("sender", ALL + INBOX),
        ("monitor", [*CHANGING, *SERVER, *INBOX, *(c for c in READING if "staged" in " ".join(c))]),
    ],
)
def test_everything_else_is_refused(
    server: EmbeddedServer, full: redis.Redis, user: str, commands: list[tuple[str, ...]]
) -> None:
    with as_user(server, user) as client:
        for command in commands:
            assert_refused(client, *command)
    assert full.xlen(keys.inbox(OTHER)) == 1


def test_a_script_of_a_producers_own_may_no_more_than_the_producer(
    server: EmbeddedServer, full: redis.Redis
) -> None:
    with as_user(server, "producer") as client:
        for command in ALL:
            called = ", ".join(f"'{word}'" for word in command)
            # Naming the key gives the script no right to it either.
            for named in ([], [keys.staged(OTHER, BACKUP)]):
                with pytest.raises(redis.ResponseError, match=_REFUSED):
                    client.eval(f"return redis.call({called})", len(named), *named)
    with redis.Redis(unix_socket_path=str(server.socket)) as all_of_it:
        assert all_of_it.get(keys.staged(OTHER, BACKUP)) == b"secret"
        assert all_of_it.xlen(keys.inbox(OTHER)) == 1


def test_a_producer_of_some_tenants_reaches_no_other(
    server: EmbeddedServer, full: redis.Redis
) -> None:
    with as_user(server, "tenants") as client:
        for command in INBOX[:3]:
            assert_refused(client, *command)
        assert_refused(client, "XLEN", keys.inbox(OTHER))
        assert client.xlen(keys.inbox(OWN)) == 1


def test_the_known_limit_a_producer_may_spoil_what_waits(
    server: EmbeddedServer, full: redis.Redis
) -> None:
    """Said in docs/security.md: the server cannot allow XADD without its trimming."""
    with as_user(server, "producer") as client:
        client.xadd(keys.inbox(OTHER), {"entry": "x"}, maxlen=0, approximate=False)
    assert full.xlen(keys.inbox(OTHER)) == 0


def test_a_monitor_sees_what_status_and_exporter_show(
    server: EmbeddedServer, full: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full.delete(keys.DEAD)
    full.hset(keys.LOAD, "entries", 1)
    full.zadd(keys.WAITING, {OWN: 1})
    full.hset(keys.backoff(OWN), mapping={"tries": 1, "since_ms": 1, "next_ms": 1, "reason": "x"})
    act_as(server, "monitor", tmp_path, monkeypatch)
    for arguments in (["status"], ["exporter", "--once"], ["dead-letters", "list"]):
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert refusals(full) == [], arguments
    assert "confkeep_up 1.0" in CliRunner().invoke(cli, ["exporter", "--once"]).stdout


def test_a_worker_does_nothing_to_the_server(server: EmbeddedServer, owner: redis.Redis) -> None:
    with as_user(server, "worker") as client:
        for command in SERVER:
            assert_refused(client, *command)
        assert client.info("server")


def test_a_rule_cannot_be_smuggled_in() -> None:
    for given in ("producer:a b", "producer:x:nopass", "producer:", "root:x", "worker:x:#"):
        done = CliRunner().invoke(cli, ["acl", "--user", given])
        assert done.exit_code == 2, given
        assert "+@all" not in done.stdout
    assert CliRunner().invoke(cli, ["acl", "--tenant", "* +@all"]).exit_code == 2
