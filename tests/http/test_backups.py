"""Handing over by HTTP, against a real worker: what is accepted is committed once, and told to its owner alone."""

from __future__ import annotations

import base64
import errno
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from confkeep.broker import keys
from confkeep.models import MAX_EXPORT_BYTES
from confkeep.settings import get_settings
from tests.http.conftest import handing_over
from tests.http.serving import in_process, new_token
from tests.integration.failing_store_app import VARIABLE
from tests.servers import Deployment, deployment, wait_for

EXPORT = "# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=new1\n"
BINARY = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."
TENANT, STRANGER = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture(scope="module")
def portal(running: Deployment) -> Iterator[httpx.Client]:
    """A client that may do everything for one tenant."""
    with handing_over(running, [TENANT]) as portal:
        yield portal


def new_device() -> tuple[str, str]:
    device = str(uuid.uuid4())
    return device, f"/v1/tenants/{TENANT}/devices/{device}"


def test_a_form_is_committed_and_read_back(portal: httpx.Client) -> None:
    device, address = new_device()
    answer = portal.post(
        f"{address}/backups",
        params={"wait": 30},
        files={"export": ("export.rsc", EXPORT), "binary": ("a.backup", BINARY)},
        data={"message": "first", "device_name": "new1", "captured_at": "2026-10-03T02:00:00Z"},
    )
    assert answer.status_code == 200, answer.text
    receipt = answer.json()["receipt"]
    assert (receipt["device_id"], receipt["device_name"]) == (device, "new1")
    version = portal.get(f"{address}/versions/latest").json()
    assert (version["sha"], version["message"]) == (receipt["sha"], "first")
    assert version["captured_at"] == "2026-10-03T02:00:00Z"
    assert portal.get(f"{address}/versions/latest/export").text == EXPORT
    assert portal.get(f"{address}/versions/latest/binary").content == BINARY
    assert portal.get(f"/v1/tenants/{TENANT}/devices/new1").json()["device_id"] == device


def test_json_is_accepted_once_for_its_id(portal: httpx.Client) -> None:
    _device, address = new_device()
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"export_base64": base64.b64encode(EXPORT.encode()).decode(), "message": "once"}
    first = portal.post(f"{address}/backups", json=body, headers=key)
    assert first.status_code == 202
    assert first.json()["backup_id"] == key["Idempotency-Key"]
    again = portal.post(f"{address}/backups", json=body, headers=key, params={"wait": 30})
    assert (again.status_code, again.json()["state"]) == (200, "committed")
    state = portal.get(first.headers["location"]).json()
    assert (state["state"], state["receipt"]["sha"]) == (
        "committed",
        again.json()["receipt"]["sha"],
    )
    assert len(portal.get(f"{address}/versions").json()) == 1
    other = portal.post(f"{address}/backups", json={"export": EXPORT + "/ip\n"}, headers=key)
    assert (other.status_code, other.json()["retryable"]) == (409, False)
    body["backup_id"] = str(uuid.uuid4())
    two = portal.post(f"{address}/backups", json=body, headers=key)
    assert (two.status_code, "Idempotency-Key" in two.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "export"),
        ({"export": " "}, "export_text"),
        ({"export": EXPORT, "device_name": "x" * 254}, "device_name"),
        ({"export": EXPORT, "captured_at": "yesterday"}, "captured_at"),
        ({"export": EXPORT, "nonsense": "secret-value"}, "nonsense"),
        ({"export": EXPORT, "binary_base64": "secret-value!"}, "binary_base64"),
        ({"export": EXPORT, "backup_id": "secret-value"}, "backup_id"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(
    portal: httpx.Client, body: dict[str, str], named: str
) -> None:
    _device, address = new_device()
    answer = portal.post(f"{address}/backups", json=body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert "secret-value" not in answer.text


def test_what_is_too_large_is_refused_before_it_is_read(portal: httpx.Client) -> None:
    _device, address = new_device()

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(10**9)}
    request = portal.build_request("POST", f"{address}/backups", headers=headers)
    place = (portal.base_url.host, portal.base_url.port or 0)
    with socket.create_connection(place, timeout=10) as connection:
        head = f"POST {request.url.path} HTTP/1.1\r\nHost: x\r\nAuthorization: {portal.headers['authorization']}\r\n"
        for name, value in headers.items():
            head += f"{name}: {value}\r\n"
        connection.sendall(head.encode() + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    too_large = {"export": ("e", b"x" * (MAX_EXPORT_BYTES + 1))}
    assert portal.post(f"{address}/backups", files=too_large).status_code == 413


def test_a_large_backup_is_in_memory_once(portal: httpx.Client) -> None:
    _device, address = new_device()
    binary = os.urandom(24 * 2**20)
    files = {"export": ("e", EXPORT.encode() * 10_000), "binary": ("b", binary)}
    form = portal.build_request("POST", f"{address}/backups", files=files)
    body = memoryview(form.read())
    pieces = (bytes(body[at : at + 2**16]) for at in range(0, len(body), 2**16))
    before = resident("VmRSS")
    # The server runs in this process: let its peak begin anew.
    Path("/proc/self/clear_refs").write_text("5")
    answer = portal.post(form.url, content=pieces, headers=form.headers)
    grown = resident("VmHWM") - before
    assert answer.status_code == 202, answer.text
    assert grown < len(body) * 1.5, f"{grown / len(body):.2f} times the body"
    got = portal.get(answer.headers["location"], params={"wait": 30}).json()
    assert got["state"] == "committed", got
    kept = portal.get(f"{address}/versions/latest/binary").content
    assert kept == binary


@pytest.mark.usefixtures("portal")
def test_a_body_of_unannounced_length_counts_towards_its_token(running: Deployment) -> None:
    with running.client() as client:
        token = new_token(client, "stream", [TENANT], ["enqueue"])
    little = get_settings().model_copy(update={"http_mib": 1})
    _device, address = new_device()
    as_json = {"Content-Type": "application/json"}
    with in_process(little, token) as portal:
        for _ in range(2):
            pieces = (b" " * 2**16 for _ in range(12))
            # No backup, and read to its end all the same.
            answer = portal.post(f"{address}/backups", content=pieces, headers=as_json)
            assert answer.status_code == 422, answer.text
        assert portal.post(f"{address}/backups", json={"export": EXPORT}).status_code == 429


def resident(name: str) -> int:
    """A figure of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def test_labels_are_given_like_backups(portal: httpx.Client) -> None:
    device, address = new_device()
    portal.post(f"{address}/backups", json={"export": EXPORT}, params={"wait": 30})
    named = portal.patch(address, json={"name": "core9", "group": "core"}, params={"wait": 30})
    assert named.status_code == 200, named.text
    found = portal.get(f"/v1/tenants/{TENANT}/devices/core9").json()
    assert (found["device_id"], found["group"], found["versions"]) == (device, "core", 1)
    assert portal.patch(address, json={}).status_code == 422


def test_an_erasure_wants_the_whole_id(portal: httpx.Client) -> None:
    device, address = new_device()
    portal.post(f"{address}/backups", json={"export": EXPORT}, params={"wait": 30})
    wrong = portal.request("DELETE", address, json={"device_id": device[:8]})
    assert wrong.status_code == 422
    done = portal.request("DELETE", address, json={"device_id": device})
    assert (done.status_code, done.json()["state"]) == (200, "done"), done.text
    assert portal.get(address).status_code == 404


def test_nobody_else_learns_of_a_backup(running: Deployment, portal: httpx.Client) -> None:
    device, address = new_device()
    made = portal.post(f"{address}/backups", json={"export": EXPORT}, params={"wait": 30}).json()
    with running.client() as client:
        token = new_token(client, "stranger", [STRANGER], ["read", "enqueue"])
        headers = {"Authorization": f"Bearer {token}"}
        there = portal.get(f"/v1/backups/{made['backup_id']}", headers=headers)
        never = portal.get(f"/v1/backups/{uuid.uuid4()}", headers=headers)
        assert (there.status_code, never.status_code) == (404, 404)
        assert there.json()["title"] == never.json()["title"]
        refused = portal.post(f"{address}/backups", json={"export": EXPORT}, headers=headers)
        assert refused.status_code == 404
        # Git tells the owner still when Redis has forgotten.
        client.delete(keys.result(made["backup_id"]))
        known = portal.get(f"/v1/backups/{made['backup_id']}").json()
        assert (known["source"], known["receipt"]["device_id"]) == ("git", device)
        assert portal.get(f"/v1/backups/{made['backup_id']}", headers=headers).status_code == 404


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[tuple[httpx.Client, Deployment]]:
    """A client of a deployment whose store's disk is full, and that deployment."""
    fault = tmp_path / "fault"
    fault.write_text(str(errno.ENOSPC))
    with deployment(tmp_path) as running:
        running.start_worker(
            app="tests.integration.failing_store_app",
            pool="threads",
            variables={VARIABLE: str(fault)},
        )
        with handing_over(running, [TENANT]) as portal:
            yield portal, running


def test_what_waits_for_a_full_disk_says_so(
    refusing: tuple[httpx.Client, Deployment],
) -> None:
    portal, running = refusing
    _device, address = new_device()
    first = portal.post(f"{address}/backups", json={"export": EXPORT})
    told = first.headers["location"]
    wait_for(lambda: portal.get(told).json()["state"] == "retrying", "the fault")
    # Accepted while the tenant waits: no turn has met these.
    waited = portal.post(f"{address}/backups", json={"export": EXPORT}, params={"wait": 0.2})
    later = portal.post(f"{address}/backups", json={"export": EXPORT})
    assert (waited.status_code, later.status_code) == (202, 202)
    for answer in (waited, portal.get(told), portal.get(later.headers["location"])):
        said = answer.json()
        assert said["state"] == "retrying"
        assert "no space left on the device" in said["reason"]
        assert f"Free space on the disk of {running.store}." in said["hint"]
        assert f"`confkeep kick {TENANT}`" in said["hint"]
        assert "confkeep up" not in said["hint"]


def test_rights_are_asked_for(running: Deployment, portal: httpx.Client) -> None:
    _device, address = new_device()
    with running.client() as client:
        headers = {"Authorization": f"Bearer {new_token(client, 'reader', [TENANT], ['read'])}"}
    for method, path in (("POST", f"{address}/backups"), ("PATCH", address), ("DELETE", address)):
        answer = portal.request(method, path, content=json.dumps({}), headers=headers)
        assert answer.status_code == 403
