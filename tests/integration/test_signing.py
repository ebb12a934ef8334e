"""A broker that others can write to: a worker with keys commits what was signed, and nothing planted.

The server has users, and the producer, the worker and the operator each come with their own.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.errors import InvalidInput, MessageRefused, NotSigned
from confkeep.queue.entry import Entry
from confkeep.settings import get_settings
from tasks import InvalidBackup, PoisonedBackup, Receipt, enqueue_backup, signed_receive
from tests.integration.conftest import become_producer, forget_environment
from tests.integration.test_acl import PASSWORD, as_user, refusals, url_of, write_rules
from tests.judge import assert_all_readable, git
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.cli import cli
from worker.process.local import EmbeddedServer
from worker.queue.inbox import Inbox

OLD, NEW = "the-old-key-" + "o" * 32, "the-new-key-" + "n" * 32
SECRET = "a-routers-password"
TENANT, DEVICE = str(uuid.UUID(int=11)), str(uuid.UUID(int=12))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Deployment]:
    write_rules(tmp_path / "users.acl")
    server = EmbeddedServer(tmp_path / "server")
    server.start("--aclfile", str(tmp_path / "users.acl"))
    running = Deployment(tmp_path, server)
    yield running
    running.stop()
    forget_environment()
    assert_all_readable(running.store)


def act_as(broker: Deployment, monkeypatch: pytest.MonkeyPatch, user: str, key: str | None) -> None:
    """Be a process of a user's, with a key or without one."""
    variables = {"CONFKEEP_REDIS_URL": url_of(broker.server, user)}
    if key is None:
        monkeypatch.delenv("CONFKEEP_SIGNING_KEY", raising=False)
    else:
        variables["CONFKEEP_SIGNING_KEY"] = key
    become_producer(dataclasses.replace(broker, variables=variables), monkeypatch)


def confkeep(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def export(number: int) -> str:
    return f"/user add name={number} password={SECRET}\n"


def send(number: int, **more: object) -> app.AsyncResult:
    backup = {"tenant_id": TENANT, "device_id": DEVICE, "message": f"{number}", **more}
    backup.setdefault("export_text", export(number))
    task_id = str(backup.get("backup_id") or uuid.uuid4())
    return app.send_task(
        "backups.receive", task_id=task_id, queue=keys.RECEIVE_QUEUE, kwargs=backup, kwargsrepr=""
    )


def test_only_what_was_signed_is_committed(
    broker: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While nobody works: by the key of before, by that of after, by none, and planted.
    act_as(broker, monkeypatch, "worker", OLD)
    first = enqueue_backup(TENANT, DEVICE, export(1), None, "1")
    act_as(broker, monkeypatch, "worker", None)
    unsigned = enqueue_backup(TENANT, DEVICE, export(2), None, "2")
    with broker.client() as owner:
        [(_, real), _] = owner.xrange(keys.inbox(TENANT))
    entry = dataclasses.replace(
        Entry.from_json(real[b"entry"]), message="planted", device_id=TENANT
    ).to_json()
    with as_user(broker.server, "worker") as thief:
        thief.xadd(keys.inbox(TENANT), {**real, b"entry": entry})
    act_as(broker, monkeypatch, "worker", f"{NEW},{OLD}")
    second = enqueue_backup(TENANT, DEVICE, export(3), b"x", "3")

    url = url_of(broker.server, "worker")
    broker.start_worker(
        pool="threads",
        CONFKEEP_REDIS_URL=url,
        CONFKEEP_SIGNING_KEY=f"{NEW},{OLD}",
        CONFKEEP_READ_TASKS="0",
        CONFKEEP_LOG_LEVEL="debug",
    )

    for number, result in enumerate((first, second), start=1):
        assert Receipt(**result.get(timeout=30)).device_id == DEVICE, number
    with pytest.raises(NotSigned, match="has no signature"):
        unsigned.get(timeout=30)

    # Messages of clients without confkeep's package.
    act_as(broker, monkeypatch, "worker", None)
    signed = send(4, **_signature(4))
    assert Receipt(**signed.get(timeout=30)).backup_id == signed.id
    with pytest.raises(InvalidBackup, match="signature: is missing"):
        send(5).get(timeout=30)
    with pytest.raises(InvalidBackup, match="none of the keys, or for another backup"):
        send(6, **{**_signature(6), "export_text": "/planted"}).get(timeout=30)
    read = ("backups.read_file", (TENANT, "HEAD", DEVICE, "export.rsc"))
    with pytest.raises(MessageRefused, match="does not belong to this queue"):
        app.send_task(read[0], args=read[1], queue=keys.RECEIVE_QUEUE).get(timeout=30)
    act_as(broker, monkeypatch, "worker", None)
    with pytest.raises(InvalidInput, match="CONFKEEP_READ_TASKS"):
        app.send_task(read[0], args=read[1], queue=keys.queue_of(TENANT, 16)).get(timeout=30)

    # An operator looks at what was not signed, and vouches for the one that is real.
    act_as(broker, monkeypatch, "worker", f"{NEW},{OLD}")
    letters = json.loads(confkeep("dead-letters", "list", "--json"))["dead_letters"]
    assert {letter["kind"] for letter in letters} == {"NotSigned"}
    assert [letter["device_id"] for letter in letters] == [DEVICE, TENANT]
    retried = CliRunner().invoke(cli, ["dead-letters", "retry", letters[0]["backup_id"]])
    assert (retried.exit_code, issubclass(NotSigned, PoisonedBackup)) == (23, True)
    confkeep("dead-letters", "retry", "--sign", letters[0]["backup_id"])
    act_as(broker, monkeypatch, "worker", None)
    wait_for(lambda: app.AsyncResult(unsigned.id).successful(), "the backup to be committed")

    messages = git(broker.store / f"{TENANT}.git", "log", "--format=%s", "main").decode().split()
    assert messages == ["2", "4", "3", "1"]
    with broker.client() as owner:
        wait_for(lambda: not Inbox(owner, get_settings(), TENANT).depth(), "the inbox to be empty")
        assert owner.hlen(keys.DEAD) == 1
        # The worker asked for the server's configuration.
        assert refusals(owner) == ["config|get in toplevel"]
    logged = broker.log.read_text()
    assert "action=inbox.refused" in logged
    for secret in (OLD, NEW, SECRET, PASSWORD, "planted"):
        assert secret not in logged


def _signature(number: int) -> dict[str, object]:
    made = signed_receive(
        NEW,
        tenant_id=TENANT,
        device_id=DEVICE,
        message=f"{number}",
        export_text=export(number),
    )
    return {name: made[name] for name in ("backup_id", "signature")}
