"""What HTTP says of tenants and devices, and to whom."""

from __future__ import annotations

import uuid

import httpx

from tests.http.conftest import Stored


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


def test_the_token_may_come_in_three_ways(stored: Stored, full: httpx.Client) -> None:
    token = full.headers["authorization"].removeprefix("Bearer ")
    for ways in (
        {"headers": {"Authorization": "", "X-Auth-Token": token}},
        {"auth": ("any", token)},
    ):
        assert full.get("/v1/tenants", **ways).status_code == 200
