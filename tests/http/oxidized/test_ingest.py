"""What Oxidized's `http` output sends is committed once, byte for byte, to the device that an import finds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import redis

from confkeep import enqueue_backup, name_device, name_tenant
from confkeep.models import MAX_EXPORT_BYTES
from confkeep.settings import get_settings
from tests.http.oxidized.output import HttpOutput, Stored
from tests.http.serving import new_token, serve
from tests.integration.conftest import become_producer, forget_environment
from tests.judge import git
from tests.servers import Deployment, deployment, wait_for
from worker.cli.sources import oxidized as importing
from worker.cli.sources.names import Names
from worker.engine.directory import Called, names_of
from worker.engine.made_ids import made_id
from worker.store.repository.tenant_repository import open_repository, repository_path

IOS = "!\n! Last configuration change at 10:00:00 UTC\nhostname sw1\n!\nend\n"


@dataclass(frozen=True)
class Door:
    """A running deployment with its HTTP, and what may be asked of it."""

    running: Deployment
    client: redis.Redis
    url: str

    def output(self, *tenants: str) -> HttpOutput:
        """Oxidized's output with a token for these tenants; for all if none is given."""
        name = str(uuid.uuid4())
        token = new_token(self.client, name, tenants or ("*",), ["enqueue"])
        return HttpOutput(self.url, "oxidized", token)

    def devices(self, tenant: str) -> dict[str, Called]:
        """The tenant's devices."""
        return names_of(open_repository(repository_path(self.running.store, tenant)))

    def show(self, tenant: str, revision: str) -> bytes:
        """What git prints of a file in a commit."""
        return git(repository_path(self.running.store, tenant), "show", revision)

    def subjects(self, tenant: str) -> list[str]:
        """The subjects of all commits, newest first."""
        path = repository_path(self.running.store, tenant)
        return git(path, "log", "--format=%s", "main").decode().splitlines()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("ingest")
    with pytest.MonkeyPatch.context() as patch, deployment(folder) as running:
        become_producer(running, patch)
        running.start_worker()
        with running.client() as client, serve(get_settings()) as address:
            yield Door(running, client, f"{address}/ingest/oxidized")
    forget_environment()


def committed(door: Door, stored: Stored) -> dict[str, str]:
    """Where a text went, once it is in git."""
    assert stored.complete, stored.body
    where: dict[str, str] = json.loads(stored.body)
    path = repository_path(door.running.store, where["tenant_id"])
    wanted = f"backup-id {where['backup_id']}".encode()
    wait_for(
        lambda: path.exists() and wanted in git(path, "log", "--format=raw", "--all"),
        "the commit",
    )
    return where


@pytest.mark.parametrize(
    "text",
    [
        IOS,
        "\ufeff## Last commit: now\r\nversion 21.4;\r\n",
        'config system global\n    set alias "caf\u00e9"\nend\n\x00\x7f\n',
        b"latin-1 \xe9\xff\n",
        "no line end",
    ],
    ids=["ios", "bom", "controls", "latin-1", "no-end"],
)
def test_every_makers_text_is_kept_byte_for_byte(door: Door, text: str | bytes) -> None:
    tenant = str(uuid.uuid4())
    where = committed(door, door.output(tenant).store("sw1", text, msg="update sw1"))
    assert where["tenant_id"] == tenant
    expected = text if isinstance(text, bytes) else text.encode()
    assert door.show(tenant, f"main:{where['device_id']}/export.rsc") == expected


def test_user_and_message_stand_in_the_commit(door: Door) -> None:
    tenant = str(uuid.uuid4())
    sent = door.output(tenant).store(
        "sw1", IOS, msg="update sw1 from syslog", user="alice", email="a@example.com", group="edge"
    )
    committed(door, sent)
    path = repository_path(door.running.store, tenant)
    message = git(path, "log", "-1", "--format=%B", "main").decode().strip()
    assert message == "update sw1 from syslog\n\nBy alice <a@example.com>"
    [called] = door.devices(tenant).values()
    assert (called.labels.name, called.labels.group) == ("sw1", "edge")


def test_the_same_text_within_a_minute_is_committed_once(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    tenant = str(uuid.uuid4())
    output = door.output(tenant)
    first = committed(door, output.store("sw1", IOS))
    assert committed(door, output.store("sw1", IOS)) == first
    monkeypatch.setattr("time.time", lambda: 1_800_000_060.0)
    later = committed(door, output.store("sw1", IOS))
    assert later["backup_id"] != first["backup_id"]
    assert door.subjects(tenant) == ["update sw1", "update sw1"]


def test_a_client_may_choose_the_id(door: Door) -> None:
    tenant, chosen = str(uuid.uuid4()), str(uuid.uuid4())
    output = replace(door.output(tenant), headers=(("Idempotency-Key", chosen),))
    assert committed(door, output.store("sw1", IOS))["backup_id"] == chosen
    assert output.store("sw1", IOS + "!\n").status == 409


def _oxidizeds_repository(folder: Path, *files: str) -> Path:
    """A repository as Oxidized writes it, with one commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare", ".")
    entries = []
    for file in files:
        blob = git(folder, "hash-object", "-w", "--stdin", stdin=IOS.encode()).decode().strip()
        entries.append(f"100644,{blob},{file}")
    for entry in entries:
        git(folder, "update-index", "--add", "--cacheinfo", entry)
    tree = git(folder, "write-tree").decode().strip()
    sha = git(folder, "commit-tree", "-m", "update", tree).decode().strip()
    git(folder, "update-ref", git(folder, "symbolic-ref", "HEAD").decode().strip(), sha)
    return folder


def test_it_finds_the_devices_of_an_import_with_a_tenant_for_each_group(
    door: Door, tmp_path: Path
) -> None:
    """A token for all tenants: the group is the tenant, as where no --tenant is given."""
    group = f"site/{uuid.uuid4()}"
    names = Names()
    importing.read(
        _oxidizeds_repository(tmp_path / "o.git", f"{group}/sw1"), tenant=None, names=names
    )
    [row] = names.rows
    where = committed(door, door.output().store("sw1", IOS, group=group))
    assert (where["tenant_id"], where["device_id"]) == (row.tenant_id, row.device_id)
    description = repository_path(door.running.store, row.tenant_id) / "description"
    wait_for(lambda: description.read_text().strip() == group, "the tenant's name")


def test_a_token_for_one_tenant_finds_what_an_import_into_it_made(
    door: Door, tmp_path: Path
) -> None:
    """Groups are groups there, as with --tenant NAME, or with the tenant's id."""
    path = _oxidizeds_repository(tmp_path / "o.git", "edge/sw1", "sw2")
    acme = f"acme-{uuid.uuid4()}"
    for tenant in (acme, str(uuid.uuid4())):
        names = Names()
        importing.read(path, tenant=tenant, names=names)
        output = door.output(made_id(tenant))
        if tenant == acme:
            name_tenant(made_id(tenant), tenant).receipt(30)
        for row, group in zip(names.rows, ("edge", None), strict=True):
            where = committed(door, output.store(row.device.rpartition("/")[2], IOS, group=group))
            assert (where["tenant_id"], where["device_id"]) == (row.tenant_id, row.device_id)


def test_a_token_for_the_tenant_of_a_group_finds_what_an_import_made(door: Door) -> None:
    group = f"edge-{uuid.uuid4()}"
    first = committed(door, door.output().store("sw1", IOS, group=group))
    description = repository_path(door.running.store, first["tenant_id"]) / "description"
    wait_for(lambda: description.read_text().strip() == group, "the tenant's name")
    name_device(first["tenant_id"], first["device_id"], "lobby").receipt(30)
    output = door.output(first["tenant_id"])
    later = committed(door, output.store("sw1", IOS + "!\n", group=group))
    assert later["device_id"] == first["device_id"]


def test_a_name_that_a_person_gave_stays(door: Door) -> None:
    tenant = str(uuid.uuid4())
    output = door.output(tenant)
    where = committed(door, output.store("sw1", IOS, group="edge"))
    name_device(tenant, where["device_id"], "lobby").receipt(30)
    assert (
        committed(door, output.store("sw1", IOS + "!\n", group="edge"))["device_id"]
        == where["device_id"]
    )
    [called] = door.devices(tenant).values()
    assert called.name == "lobby"


def test_a_device_that_a_portal_backs_up_is_found_by_its_name(door: Door) -> None:
    tenant, device = str(uuid.uuid4()), str(uuid.uuid4())
    enqueue_backup(tenant, device, IOS, None, "poll", device_name="sw1").receipt(30)
    where = committed(door, door.output(tenant).store("sw1", IOS + "!\n", group="edge"))
    assert where["device_id"] == device


def test_a_model_becomes_the_label(door: Door) -> None:
    tenant = str(uuid.uuid4())
    output = door.output(tenant)
    sent = {"node": "sw1", "config": IOS, "model": "ios"}
    headers = {
        "X-Auth-Token": output.password or ""
    }  # model: the one field that Oxidized does not send

    answer = httpx.post(output.url, json=sent, headers=headers)
    committed(door, Stored(answer.status_code, answer.text))
    [called] = door.devices(tenant).values()
    assert called.labels.model == "ios"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"node": "sw1"}', 422),
        (b'{"node": "", "config": "x"}', 422),
        (b'{"node": "sw1", "config": "  "}', 422),
        (b'{"node": "sw1", "config": "\\ud800"}', 422),
        (b'{"node": "a\\u0000b", "config": "x"}', 422),
        (b'{"node": "sw1", "config": "x", "group": 1}', 422),
        (b'{"node": "' + b"x" * 300 + b'", "config": "x"}', 422),
        (b"[" * 100_000, 422),
    ],
)
def test_nonsense_is_refused_and_not_repeated(door: Door, body: bytes, status: int) -> None:

    output = door.output(str(uuid.uuid4()))
    answer = httpx.post(output.url, content=body, auth=("oxidized", output.password or ""))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.text) < 1_000


def test_a_text_that_is_too_large_is_refused(door: Door) -> None:
    output = door.output(str(uuid.uuid4()))
    assert output.store("sw1", "x" * (MAX_EXPORT_BYTES + 1)).status == 422
    assert not output.store("sw1", "\n" * (MAX_EXPORT_BYTES + 1)).complete


def test_a_group_of_no_tenant_that_the_token_may_see_is_refused(door: Door) -> None:
    output = door.output(str(uuid.uuid4()), str(uuid.uuid4()))
    refused = output.store("sw1", IOS, group="nowhere")
    assert refused.status == 404
    assert not output.store("sw1", IOS).complete


def test_who_may_only_read_hands_nothing_over(door: Door) -> None:
    tenant = str(uuid.uuid4())
    token = new_token(door.client, str(uuid.uuid4()), [tenant], ["read", "reveal"])
    assert HttpOutput(door.url, "oxidized", token).store("sw1", IOS).status == 403
    assert HttpOutput(door.url).store("sw1", IOS).status == 401


def test_it_works_too_where_the_workers_are_asked_for_the_store(door: Door) -> None:
    """For a process of HTTP that does not reach the store."""
    tenant = str(uuid.uuid4())
    first = committed(door, door.output(tenant).store("sw1", IOS, group="edge"))
    token = new_token(door.client, str(uuid.uuid4()), [tenant], ["read", "enqueue"])
    with serve(get_settings().model_copy(update={"http_store": False})) as address:
        output = HttpOutput(f"{address}/ingest/oxidized", "oxidized", token)
        later = committed(door, output.store("sw1", IOS + "!\n", group="edge"))
        assert later["device_id"] == first["device_id"]
        with httpx.Client(base_url=address, auth=("any", token)) as client:
            assert client.get("/node/fetch/edge/sw1").text == IOS + "!\n"
            new, old = client.get("/node/version.json?node_full=sw1").json()
            asked = {"node": "sw1", "oid": new["oid"], "oid2": old["oid"], "format": "text"}
            assert client.get("/node/version/diffs", params=asked).text.endswith(" end\n+!\n")
            asked = {"search_in_conf_textbox": "hostname sw1"}
            found = client.post("/nodes/conf_search.json", data=asked).json()
            assert found == [{"node": "sw1", "full_name": "edge/sw1"}]
            assert client.get("/node/show/nope.json").status_code == 404
