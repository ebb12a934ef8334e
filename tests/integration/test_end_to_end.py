"""From an enqueue to a commit: every accepted backup once, in order, with its receipt."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from confkeep.broker import keys
from confkeep.errors import StagedBytesDamaged, StagedBytesMissing, StoreUnavailable
from confkeep.queue import wakeups
from confkeep.settings import get_settings
from tasks import BackupIdConflict, InvalidBackup, Receipt, enqueue_backup, enqueue_backups
from tasks.read import ANSWER_LIFE_S
from tests.integration.conftest import STAGINGS, with_variables
from tests.judge import backup_ids, git
from tests.servers import LASTING_KEYS, Deployment, names_of, wait_for
from worker import git_store
from worker.app import app
from worker.engine import drain
from worker.queue import totals
from worker.queue.inbox import Inbox

EXPORT = "# 2026-01-02 03:04:05 by RouterOS 7.16\r\n/ip address\nadd address=10.0.0.1 \udce9\n"


def new_id() -> str:
    return str(uuid.uuid4())


def remaining_keys(deployed: Deployment) -> set[str]:
    with deployed.client() as client:
        return names_of(client)


def own_keys(deployed: Deployment) -> set[str]:
    """The keys that are left, but for the broker's list of its queues."""
    return {key for key in remaining_keys(deployed) if not key.startswith("_kombu.")}


@with_variables(*({**staging, "CONFKEEP_BATCH_MAX_BACKUPS": "10"} for staging in STAGINGS))
def test_two_workers_and_two_producers_keep_every_backup_once_and_in_order(
    deployed: Deployment,
) -> None:
    tenants = [new_id() for _ in range(5)]
    for number in range(2):
        deployed.start_worker(f"w{number}")
    producers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.producer", str(n), "125", *tenants],
            stdout=subprocess.PIPE,
            env={**os.environ, **deployed.environment},
        )
        for n in range(2)
    ]
    sent: list[dict[str, list[str]]] = []
    for producer in producers:
        output, _ = producer.communicate(timeout=60)
        assert producer.returncode == 0
        sent.append(json.loads(output))
    ids = [i for one in sent for tenant in tenants for i in one[tenant]]
    assert len(set(ids)) == 250
    receipts = {i: Receipt(**AsyncResult(i, app=app).get(timeout=60)) for i in ids}
    # Wake flags expire by themselves; nothing may be left in queues or unacknowledged.
    expected = {*LASTING_KEYS, *map(keys.result, ids)}
    wait_for(lambda: own_keys(deployed) == expected, "exactly the keys that should remain")
    for tenant in tenants:
        repository = deployed.store / f"{tenant}.git"
        committed = backup_ids(repository)
        assert len(committed) == 50
        for one in sent:
            own = set(one[tenant])
            assert [i for i in committed if i in own] == one[tenant]
        shas = git(repository, "log", "--reverse", "--format=%H", "main").decode().split()
        assert [receipts[i].sha for i in committed] == shas
    with deployed.client() as client:
        counted = totals.read_totals(client)
        assert (counted.enqueued, counted.committed, counted.dead) == (250, 250, 0)
        assert counted.latency.count == 250
        last = [commit.sha for commit in totals.read_recent(client)]
        assert len(last) == totals.RECENT_ROWS
        assert set(last) <= {receipt.sha for receipt in receipts.values()}
    staged = deployed.path / "staging"
    assert not [path for path in staged.rglob("*") if path.is_file()]


def test_receipts_say_what_happened(deployed: Deployment) -> None:
    deployed.start_worker()
    tenant, device = new_id(), new_id()

    def keep(text: str, binary: bytes | None) -> Receipt:
        return Receipt(**enqueue_backup(tenant, device, text, binary, "m").get(timeout=30))

    first = keep(EXPORT, b"one")
    assert (first.lines_added, first.lines_removed) == (3, 0)
    assert (first.unchanged, first.export_changed) == (False, True)
    same = keep(EXPORT, b"one")
    assert (same.unchanged, same.export_changed) == (True, False)
    binary = keep(EXPORT, b"two")
    assert (binary.unchanged, binary.export_changed) == (False, False)
    later = keep(EXPORT.replace("03:04:05", "04:00:00"), b"two")
    assert (later.lines_added, later.lines_removed) == (1, 1)
    assert (later.unchanged, later.export_changed) == (False, False)
    changed = keep(EXPORT.replace("10.0.0.1", "10.0.0.2"), None)
    assert (changed.unchanged, changed.export_changed) == (False, True)
    shas = [one["sha"] for one in git_store.list_device_commits(tenant, device)]
    assert shas == [changed.sha, later.sha, binary.sha, first.sha]
    data = EXPORT.encode("utf-8", "surrogateescape")
    assert git_store.read_file(tenant, first.sha, device, "export.rsc") == data
    tree = git(deployed.store / f"{tenant}.git", "ls-tree", "--name-only", "-r", changed.sha)
    assert tree.decode().split() == [f"{device}/export.rsc"], (
        "a capture without binary commits none"
    )


def test_a_backup_enqueued_again_is_committed_once_with_one_receipt(deployed: Deployment) -> None:
    tenant, device, backup = new_id(), new_id(), new_id()
    values: Any = {
        "tenant_id": tenant,
        "device_id": device,
        "export_text": "/ip",
        "binary_backup": None,
        "message": "m",
        "backup_id": backup,
    }
    twice = enqueue_backups([values, values])
    assert [result.id for result in twice] == [backup, backup]
    deployed.start_worker(pool="threads")
    first = twice[0].get(timeout=30)
    again = enqueue_backup(**values)
    assert again.get(timeout=30) == first
    # And when Redis has forgotten the id, git has not.
    with deployed.client() as client:
        client.delete(keys.result(backup))
    assert enqueue_backup(**values).get(timeout=30) == first
    with pytest.raises(BackupIdConflict):
        enqueue_backup(tenant, device, "/other", None, "m", backup_id=backup)
    assert backup_ids(deployed.store / f"{tenant}.git") == [backup]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant_id", "../../etc"),
        ("device_id", "{6fa459ea-ee8a-3ca4-894e-db77e160355e}"),
        ("export_text", " \n"),
        ("binary_backup", b"x" * (64 * 2**20 + 1)),
        ("message", "x" * 4097),
        ("backup_id", "1"),
    ],
)
@with_variables(*STAGINGS)
def test_bad_input_names_its_field_and_leaves_nothing(
    deployed: Deployment, name: str, value: object
) -> None:
    good: Any = {
        "tenant_id": new_id(),
        "device_id": new_id(),
        "export_text": "/ip",
        "binary_backup": None,
        "message": "m",
    }
    with pytest.raises(InvalidBackup) as raised:
        enqueue_backups([good, good | {name: value}])
    assert raised.value.field == name
    assert remaining_keys(deployed) == set()
    assert not (deployed.path / "staging").exists()


@with_variables({"CONFKEEP_STAGING": "volume"})
def test_an_id_used_again_for_another_device_takes_nothing_from_the_first(
    deployed: Deployment,
) -> None:
    tenant, device = new_id(), new_id()
    first = enqueue_backup(tenant, device, "/ip", b"x", "m")
    with pytest.raises(BackupIdConflict):
        enqueue_backup(tenant, new_id(), "/ip", b"x", "m", backup_id=first.id)
    deployed.start_worker(pool="threads")
    assert first.get(timeout=30)["device_id"] == device


def test_any_celery_client_can_hand_over_a_backup(deployed: Deployment) -> None:
    from celery import Celery

    deployed.start_worker(pool="threads")
    url = f"redis+socket://{deployed.server.socket}?virtual_host=0"
    tenant, device = new_id(), new_id()
    staged = {name: new_id() for name in ("export", "binary")}
    with Celery("portal", broker=url, backend=url, set_as_current=False) as portal:

        def send(**kwargs: Any) -> Any:
            given = {"tenant_id": tenant, "device_id": device, "message": "m", **kwargs}
            return portal.send_task("backups.receive", kwargs=given, queue="backups.receive")

        by_value = send(export_text="/one", binary_base64=base64.b64encode(b"bin").decode())
        receipt = Receipt(**by_value.get(timeout=30))
        assert receipt.backup_id == by_value.id
        assert git_store.read_file(tenant, receipt.sha, device, "backup.bin") == b"bin"

        with deployed.client() as client:
            client.set(keys.handoff(tenant, staged["export"]), b"/staged\xff")
            client.set(keys.handoff(tenant, staged["binary"]), b"staged binary")
        references = {
            f"{name}_staged": {
                "id": staged[name],
                "size_bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in (("export", b"/staged\xff"), ("binary", b"staged binary"))
        }
        backup = new_id()
        by_reference = send(**references, backup_id=backup)
        receipt = Receipt(**by_reference.get(timeout=30))
        assert receipt.backup_id == backup
        assert git_store.read_file(tenant, receipt.sha, device, "export.rsc") == b"/staged\xff"
        assert not [key for key in remaining_keys(deployed) if "handoff" in key]

        # Another task with that backup's id: one commit, and the receipt under both tasks' ids.
        again = send(
            export_base64=base64.b64encode(b"/staged\xff").decode(),
            binary_base64=base64.b64encode(b"staged binary").decode(),
            backup_id=backup,
        )
        assert Receipt(**again.get(timeout=30)) == receipt
        assert backup_ids(deployed.store / f"{tenant}.git") == [by_value.id, backup]

        for wrong, field in (
            ({"export_text": "/x", "device_id": "../x"}, "device_id"),
            ({"export_text": "/x", "binary_base64": "***"}, "binary_base64"),
            ({}, "backup"),
            ({"export_text": "/x", "surprise": 1}, "surprise"),
            (references, "export_staged"),
            (
                {
                    "export_text": "/x",
                    "binary_staged": {**references["binary_staged"], "id": "../x"},
                },
                "binary_staged.id",
            ),
        ):
            with pytest.raises(InvalidBackup) as raised:
                send(**wrong).get(timeout=30)
            assert raised.value.args[0] == field


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_backup_that_cannot_be_committed_fails_alone(deployed: Deployment, damage: str) -> None:
    tenant, device = new_id(), new_id()
    sent = [enqueue_backup(tenant, device, f"/ip {n}", b"x", "m") for n in range(5)]
    with deployed.client() as client:
        name = keys.staged(tenant, sent[2].id)
        if damage == "missing":
            client.delete(name)
        else:
            client.setrange(name, 1, "?")
    deployed.start_worker(pool="threads")
    for number, result in enumerate(sent):
        if number != 2:
            assert result.get(timeout=30)["backup_id"] == result.id
    with pytest.raises(StagedBytesMissing if damage == "missing" else StagedBytesDamaged):
        sent[2].get(timeout=30)
    committed = backup_ids(deployed.store / f"{tenant}.git")
    assert committed == [result.id for result in sent if result is not sent[2]]
    with deployed.client() as client:
        assert client.hkeys(keys.DEAD) == [sent[2].id.encode()]
        assert bool(client.exists(name)) == (damage == "changed"), "its bytes are kept"


def test_a_wake_up_that_got_lost_costs_seconds(deployed: Deployment) -> None:
    tenant = new_id()
    result = enqueue_backup(tenant, new_id(), "/ip", None, "m")
    with deployed.client() as client:
        client.delete(keys.queue_of(tenant, 16))
    deployed.start_worker(pool="threads")
    assert result.get(timeout=15)["backup_id"] == result.id


def test_a_store_that_fails_keeps_the_backup_until_it_works_again(deployed: Deployment) -> None:
    tenant = new_id()
    deployed.store.write_text("in the way")
    deployed.start_worker(pool="threads")
    result = enqueue_backup(tenant, new_id(), "/ip", None, "m")
    with deployed.client() as client:
        wait_for(lambda: client.exists(keys.backoff(tenant)), "the failure to be noted")
        assert b"reason" in client.hgetall(keys.backoff(tenant))
        assert client.xlen(keys.inbox(tenant)) == 1
        deployed.store.unlink()
        assert result.get(timeout=30)["backup_id"] == result.id
        wait_for(lambda: not client.exists(keys.backoff(tenant)), "the wait to be forgotten")


def test_a_fault_of_the_system_makes_no_dead_letter_however_long_it_lasts(
    deployed: Deployment,
) -> None:
    tenant = new_id()
    deployed.store.write_text("in the way")
    results = [enqueue_backup(tenant, new_id(), "/ip", None, "m") for _ in range(3)]
    with deployed.client() as client:
        for _ in range(15):
            with pytest.raises(StoreUnavailable):
                drain.drain_inbox(Inbox(client, get_settings(), tenant))
        deployed.store.unlink()
        assert drain.drain_inbox(Inbox(client, get_settings(), tenant)).committed == 3
    for result in results:
        assert result.get(timeout=5)["backup_id"] == result.id


def test_reading_tasks_answer_where_the_repository_is(deployed: Deployment) -> None:
    deployed.start_worker(pool="threads")
    tenant, device = new_id(), new_id()
    shas = [
        enqueue_backup(
            tenant, device, f"/ip service set www port={n}\n", None, f"poll of router {n}"
        ).get(timeout=30)["sha"]
        for n in range(2)
    ]
    queue = keys.queue_of(tenant, 16)

    def ask(name: str, *arguments: str) -> Any:
        return app.send_task(f"backups.{name}", args=arguments, queue=queue).get(timeout=30)

    # What they answer stands in no log: the end of the deployment sees to that.
    assert (
        base64.b64decode(ask("read_file", tenant, shas[0], device, "export.rsc"))
        == b"/ip service set www port=0\n"
    )
    assert [entry["sha"] for entry in ask("history", tenant, device)] == shas[::-1]
    assert ask("diff", tenant, device, *shas).splitlines()[-2:] == [
        "-/ip service set www port=0",
        "+/ip service set www port=1",
    ]
    with pytest.raises(KeyError):
        ask("read_file", tenant, "main^{tree}", device, "export.rsc")

    # An answer is content, and does not say whose: an erasure relies on its going soon.
    result = app.send_task("backups.history", args=(tenant, device), queue=queue)
    result.get(timeout=30)
    with deployed.client() as client:

        def life_s() -> int:
            found: Any = client.ttl(keys.result(result.id))
            return int(found)

        wait_for(lambda: 0 < life_s() <= ANSWER_LIFE_S, "the answer's life to be shortened")


def readmes_example() -> dict[str, Any]:
    """What the README's program defines."""
    [example] = re.findall(
        r"```python\n(.*?)```",
        (Path(__file__).parents[2] / "README.md").read_text("utf-8"),
        re.DOTALL,
    )
    scope: dict[str, Any] = {}
    exec(example, scope)
    return scope


def test_the_readmes_example_keeps_what_it_polls(deployed: Deployment) -> None:
    deployed.start_worker()
    scope = readmes_example()
    tenant = new_id()

    class Router:
        def __init__(self, number: int) -> None:
            self.tenant, self.id, self.poll_id = tenant, new_id(), new_id()
            self.name = f"router {number}"

        async def capture(self) -> tuple[str, bytes]:
            return f"/system identity set name={self.id}", b"binary"

    routers = [Router(number) for number in range(5)]
    receipts = asyncio.run(scope["poll_all"](routers))
    assert {receipt.sha for receipt in receipts.values()} == set(
        git(deployed.store / f"{tenant}.git", "log", "--format=%H").decode().split()
    )
    assert set(receipts) == {router.poll_id for router in routers}


def test_the_sweep_finds_wake_ups_in_the_broker_s_own_messages(deployed: Deployment) -> None:
    # What the sweep looks through is Celery's format: a new release must not hide them.
    tenants = [new_id() for _ in range(3)]
    for tenant in tenants:
        enqueue_backup(tenant, new_id(), "/ip", None, "m")
    found: set[str] = set()
    with deployed.client() as client:
        for shard in range(16):
            found |= wakeups.queued(client, shard, 100) or set()
    assert found == set(tenants)
