"""Labels come with backups, by every door, and a naming takes its place among them."""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from confkeep.broker import keys
from confkeep.errors import BackupIdConflict, InvalidBackup
from confkeep.naming import name_device
from confkeep.sign import signed_receive
from tasks import enqueue_backup
from tests.integration.conftest import STAGINGS, become_producer, with_variables
from tests.judge import assert_sound, git
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.cli import cli
from worker.engine.directory import called
from worker.queue import totals
from worker.store.repository.tenant_repository import open_repository, repository_path

pytestmark = with_variables(*STAGINGS)

TENANT, DEVICE = str(uuid.uuid4()), str(uuid.uuid4())
WAIT_S = 30
KEY = "labels-test:" + "k" * 32


def headers(running: Deployment) -> list[list[str]]:
    """The label lines of each commit, oldest first."""
    path = repository_path(running.store, TENANT)
    assert_sound(path)
    shas = git(path, "log", "--reverse", "--format=%H", "main").decode().split()
    return [
        [
            line.removeprefix("device-")
            for line in git(path, "cat-file", "commit", sha).decode().split("\n\n")[0].split("\n")
            if line.startswith(("device-name", "device-group", "device-address", "change"))
        ]
        for sha in shas
    ]


def test_a_naming_takes_its_place_among_the_backups(deployed: Deployment) -> None:
    # All of them wait, so their order is that of the calls alone.
    first = enqueue_backup(TENANT, DEVICE, "a\n", None, "m", device_name="core1")
    naming = name_device(TENANT, DEVICE, "core-one", group="core")
    again = name_device(TENANT, DEVICE, "core-one", group="core", backup_id=naming.id)
    with pytest.raises(BackupIdConflict):
        name_device(TENANT, DEVICE, "another", backup_id=naming.id)
    second = enqueue_backup(TENANT, DEVICE, "b\n", None, "m", device_address="10.0.0.1")
    deployed.start_worker()
    receipts = [each.receipt(WAIT_S) for each in (first, naming, again, second)]
    assert [receipt.device_name for receipt in receipts] == [
        "core1",
        "core-one",
        "core-one",
        "core-one",
    ]
    assert receipts[1] == receipts[2]
    assert receipts[1].unchanged
    assert headers(deployed) == [
        ["name core1"],
        ["name core-one", "group core", "change labels"],
        ["name core-one", "address 10.0.0.1", "group core"],
    ]
    # Nothing of a naming is left, once the batch is settled: receipts come before that.
    client, staging = deployed.client(), deployed.path / "staging"
    wait_for(lambda: not list(client.scan_iter(match="confkeep:staged:*")), "staged bytes to go")
    wait_for(lambda: not any(map(Path.is_file, staging.rglob("*"))), "staged files to go")


def test_a_message_brings_labels_and_its_signature_covers_them(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.variables["CONFKEEP_SIGNING_KEY"] = KEY
    become_producer(deployed, monkeypatch)
    deployed.start_worker()
    fields: dict[str, Any] = {
        "tenant_id": TENANT,
        "device_id": DEVICE,
        "message": "m",
        "export_text": "a\n",
    }
    sent = signed_receive(KEY, **fields, device_name="core1", device_group="core")

    def ask(values: dict[str, Any]) -> Any:
        sent = app.send_task("backups.receive", kwargs=values, queue=keys.RECEIVE_QUEUE)
        return sent.get(timeout=WAIT_S)

    assert ask(sent)["device_name"] == "core1"
    for forged in (
        {**sent, "device_name": "core2"},
        {name: value for name, value in sent.items() if name != "device_group"},
        {**sent, "device_model": "CCR"},
    ):
        with pytest.raises(InvalidBackup):
            ask({**forged, "backup_id": sent["backup_id"]})
    assert headers(deployed) == [["name core1", "group core"]]


def test_the_command_line_names_a_device(deployed: Deployment) -> None:
    deployed.start_worker()
    export = deployed.path / "core1.rsc"
    export.write_text("/ip address\n")
    run = CliRunner().invoke
    handed_over = ["enqueue", TENANT, DEVICE, "--export", str(export), "-m", "m", "--wait"]
    done = run(cli, [*handed_over, "--name", "core1"])
    assert done.exit_code == 0
    assert f" of core1 ({DEVICE[:8]}): +1 -0 lines" in done.stdout
    again = json.loads(run(cli, [*handed_over, "--json"]).stdout)
    assert (again["device_name"], again["tenant_name"]) == ("core1", None)
    with deployed.client() as client:
        assert [row.device_name for row in totals.read_recent(client)] == ["core1", "core1"]
    named = run(cli, ["name", TENANT, "core1", "core-one", "--group", "core"])
    assert named.exit_code == 0, named.output
    assert "core1" in named.stdout
    repository = open_repository(repository_path(deployed.store, TENANT))
    found = called(repository, DEVICE)
    assert dataclasses.astuple(found.labels) == ("core-one", None, None, "core")
    assert "a device" not in run(cli, ["name", TENANT, "acme"]).stderr
    # Whoever leaves out the new name has named the tenant.
    forgotten = run(cli, ["name", "acme", "core-one"])
    assert "is called core-one\n" in forgotten.stdout
    assert "TENANT DEVICE NAME" in forgotten.stderr
    assert f"the tenant was acme ({TENANT[:8]})" in forgotten.stderr


def test_an_import_brings_names_and_takes_none_back(deployed: Deployment) -> None:
    deployed.start_worker()
    folder = deployed.path / "exports"
    for device in ("core1", "edge1", "cold1"):
        (folder / "acme" / device).mkdir(parents=True)
        for day in (1, 2):
            text = f"# 2026-10-0{day} 10:00:00 by RouterOS 7.16\n/ip address\n"
            if (device, day) == ("cold1", 1):
                text = ""  # refused: the next one brings the name
            (folder / "acme" / device / f"{device}_2026-10-0{day}.rsc").write_text(text)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("import", str(folder))
    run("history", "acme", "core1")
    run("name", "acme", "core1", "core-one")
    run("name", "acme", "cold1", "cold-one")
    run("name", "acme", "Acme Ltd")
    newer = "# 2026-10-03 10:00:00 by RouterOS 7.16\n/ip address\n"
    (folder / "acme" / "core1" / "core1_2026-10-03.rsc").write_text(newer)
    run("import", str(folder))
    found = json.loads(run("devices", "Acme Ltd", "--json"))
    names = {device["name"]: device["versions"] for device in found["devices"]}
    assert names == {"core-one": 3, "edge1": 2, "cold-one": 1}
