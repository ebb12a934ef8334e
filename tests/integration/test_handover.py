"""Producers that may only add, with real users, workers and git: accepted once, in order, whoever else sends."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.errors import NotPermitted
from confkeep.models import BackupFields
from tasks import (
    BackupIdConflict,
    BrokerUnavailable,
    InboxFull,
    Receipt,
    enqueue_backup,
    enqueue_backups,
)
from tests.integration.conftest import become_producer, forget_environment
from tests.integration.test_acl import PASSWORD, refusals, url_of, write_rules
from tests.judge import assert_all_readable, backup_ids, git
from tests.servers import LASTING_KEYS, Deployment, names_of, wait_for
from worker.app import app
from worker.cli import cli
from worker.process.local import EmbeddedServer
from worker.queue import totals

#: The one that the rules in `test_acl` let the user `tenants` enqueue for.
OWN = str(uuid.UUID(int=1))
TENANTS = [OWN, *(str(uuid.uuid4()) for _ in range(4))]
DEVICE = str(uuid.uuid4())


@pytest.fixture(params=["redis", "volume"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    write_rules(tmp_path / "users.acl")
    server = EmbeddedServer(tmp_path / "server")
    server.start("--aclfile", str(tmp_path / "users.acl"))
    running = Deployment(
        tmp_path, server, {"CONFKEEP_STAGING": request.param, "CONFKEEP_BATCH_MAX_BACKUPS": "20"}
    )
    yield running
    running.stop()
    forget_environment()
    assert_all_readable(running.store)


def environment_of(broker: Deployment, user: str) -> dict[str, str]:
    return {**broker.environment, "CONFKEEP_REDIS_URL": url_of(broker.server, user)}


def act_as(broker: Deployment, monkeypatch: pytest.MonkeyPatch, user: str, **more: str) -> None:
    variables = {**environment_of(broker, user), **more}
    become_producer(dataclasses.replace(broker, variables=variables), monkeypatch)


def start_worker(broker: Deployment, name: str = "w") -> None:
    broker.start_worker(name, variables={"CONFKEEP_REDIS_URL": url_of(broker.server, "worker")})


def own_keys(broker: Deployment) -> set[str]:
    with broker.client() as owner:
        return {name for name in names_of(owner) if not name.startswith("_kombu.")}


def test_two_ways_into_the_same_inboxes_keep_every_backup_once_and_in_order(
    broker: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        start_worker(broker, f"w{number}")
    producers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.producer", str(n), "250", *TENANTS],
            stdout=subprocess.PIPE,
            env={**os.environ, **environment_of(broker, user)},
        )
        for n, user in enumerate(("producer", "worker"))
    ]
    sent: list[dict[str, list[str]]] = []
    for producer in producers:
        output, _ = producer.communicate(timeout=60)
        assert producer.returncode == 0
        sent.append(json.loads(output))
    act_as(broker, monkeypatch, "producer")
    ids = [i for one in sent for tenant in TENANTS for i in one[tenant]]
    receipts = {i: Receipt(**AsyncResult(i, app=app).get(timeout=60)) for i in ids}
    expected = {*LASTING_KEYS, *map(keys.result, ids)}
    wait_for(lambda: own_keys(broker) == expected, "exactly the keys that should remain")
    for tenant in TENANTS:
        repository = broker.store / f"{tenant}.git"
        committed = backup_ids(repository)
        assert len(committed) == 100
        for one in sent:
            own = set(one[tenant])
            assert [i for i in committed if i in own] == one[tenant]
        shas = git(repository, "log", "--reverse", "--format=%H", "main").decode().split()
        assert [receipts[i].sha for i in committed] == shas
    with broker.client() as owner:
        counted = totals.read_totals(owner)
        assert (counted.enqueued, counted.committed, counted.latency.count) == (500, 500, 500)
        assert set(refusals(owner)) == {"evalsha in toplevel", "config|get in toplevel"}
    assert not [path for path in (broker.path / "staging").rglob("*") if path.is_file()]


def test_what_was_handed_over_while_nobody_works_waits_for_a_worker(
    broker: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(broker, monkeypatch, "producer")
    backups: list[BackupFields] = [
        {"tenant_id": OWN, "device_id": DEVICE, "export_text": f"/ip {n}", "message": f"{n}"}
        for n in range(45)
    ]
    results = enqueue_backups(backups)
    # The server dies and comes back: what was handed over is there.
    broker.server.kill()
    broker.server.start("--aclfile", str(broker.path / "users.acl"))
    results.append(enqueue_backup(OWN, DEVICE, "/ip last", b"x", "45"))
    with pytest.raises(BackupIdConflict):
        enqueue_backup(OWN, DEVICE, "/other", None, "m", backup_id=results[3].id)

    act_as(broker, monkeypatch, "worker")
    waiting = CliRunner().invoke(cli, ["receipt", results[0].id])
    assert (waiting.exit_code, "waits in its tenant's inbox" in waiting.output) == (16, True)
    act_as(broker, monkeypatch, "monitor")
    [inbox] = json.loads(CliRunner().invoke(cli, ["status", "--json"]).stdout)["inboxes"]
    assert (inbox["tenant_id"], inbox["entries"]) == (OWN, 46)

    start_worker(broker)
    act_as(broker, monkeypatch, "producer")
    for number, result in enumerate(results):
        assert Receipt(**result.get(timeout=30)).device_id == DEVICE, number
    log = git(broker.store / f"{OWN}.git", "log", "--reverse", "--format=%s", "main")
    assert log.decode().split() == [f"{n}" for n in range(46)]

    same: Any = {**backups[0], "backup_id": results[0].id}
    assert enqueue_backups([same])[0].get(timeout=30) == results[0].get(timeout=30)
    with pytest.raises(BackupIdConflict):
        enqueue_backups([same | {"export_text": "/other"}])
    assert len(backup_ids(broker.store / f"{OWN}.git")) == 46


def test_refusals_leave_nothing_behind(broker: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    act_as(broker, monkeypatch, "tenants", CONFKEEP_INBOX_MAX_BACKUPS="2")
    given: Any = {"tenant_id": OWN, "device_id": DEVICE, "message": "m"}
    full: list[Any] = [{**given, "export_text": f"/ip {n}"} for n in range(3)]
    with pytest.raises(InboxFull, match="2 backups"):
        enqueue_backups(full)
    before = own_keys(broker)
    with broker.client() as owner:
        assert owner.llen(keys.arrivals(OWN)) == 2
    with pytest.raises(InboxFull):
        enqueue_backups(full[:1])
    # For another's tenant, and while the server takes nothing more: as a whole, or not at all.
    with pytest.raises(NotPermitted) as refused:
        enqueue_backups([full[0] | {"tenant_id": TENANTS[1]}])
    assert "confkeep acl" in refused.value.hint
    assert PASSWORD not in str(refused.value)
    with broker.client() as owner:
        owner.delete(keys.ARRIVING, keys.arrivals(OWN))
        before = own_keys(broker)
        owner.config_set("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match="OOM"):
            enqueue_backups(full[:2])
        owner.config_set("maxmemory", 0)
        assert own_keys(broker) == before
    enqueue_backups(full[:2])


def test_a_command_without_the_rights_says_so(
    broker: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(broker, monkeypatch, "producer")
    done = CliRunner().invoke(cli, ["dead-letters", "list"])
    assert done.exit_code == NotPermitted.exit_code
    assert "Redis does not allow this to its user" in done.output
