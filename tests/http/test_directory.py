"""What HTTP says of tenants and devices, and to whom."""

from __future__ import annotations

import time
import uuid

import httpx

from tests.http.conftest import EXPORT, Stored
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import open_for_writing


def test_a_device_is_found_by_its_name(stored: Stored, full: httpx.Client) -> None:
    answer = full.get("/v1/tenants/" + stored.acme[:8] + "/devices/core1")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["device_id"], found["name"], found["group"]) == (stored.core1, "core1", "core")
    assert (found["versions"], found["sha"]) == (2, stored.shas[1])
    assert found["changed_at"].endswith("Z")


def test_a_token_learns_of_no_other_tenant(stored: Stored, confined: httpx.Client) -> None:
    """One that is there and one that is not are told apart by nothing."""
    assert [each["tenant_id"] for each in confined.get("/v1/tenants").json()] == [stored.acme]
    never = str(uuid.uuid4())
    answers = [
        confined.get(f"/v1/tenants/{tenant}/devices/secret1") for tenant in (stored.other, never)
    ]
    texts = {answer.text.replace(stored.other, "ID").replace(never, "ID") for answer in answers}
    assert [answer.status_code for answer in answers] == [404, 404]
    assert len(texts) == 1


def test_only_a_change_of_the_configuration_counts_as_one(
    stored: Stored, full: httpx.Client
) -> None:
    """RouterOS dates each export: with the date alone, every device would have changed in every night."""
    tenant, nightly = str(uuid.uuid4()), str(uuid.uuid4())
    week_ago = int(time.time()) - 7 * 86_400
    with open_for_writing(repository_path(stored.settings.git_store_path, tenant)) as writer:
        for at, export in ((week_ago, EXPORT), (None, EXPORT.replace(b"10-01", b"10-02"))):
            backup = Backup(str(uuid.uuid4()), nightly, export, None, "poll")
            writer.commit_backups([backup], now_s=at)

    def found(since: str) -> list[dict[str, str]]:
        answer = full.get(f"/v1/tenants/{tenant}/devices", params={"changed_since": since})
        devices: list[dict[str, str]] = answer.json()
        return devices

    assert found("2d") == []
    (device,) = found("8d")
    assert device["export_changed_at"] < device["changed_at"]


def test_nothing_is_told_without_a_token(stored: Stored, full: httpx.Client) -> None:
    for headers in (
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic !"},
        {"Authorization": "", "X-Auth-Token": "wrong"},
    ):
        answer = full.get("/v1/tenants", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert "www-authenticate" in answer.headers
        assert answer.json()["type"].endswith("#AccessDenied")
