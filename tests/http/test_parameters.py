"""Who mistypes a query parameter is told so; before, the answer looked like what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.http.conftest import Stored

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
ROUTES = [
    (method, path)
    for path, operations in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items()
    for method in operations
    if not path.startswith("/ingest/")
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_refuses_a_parameter_that_it_does_not_have(
    stored: Stored, full: httpx.Client, method: str, path: str
) -> None:
    there = path.format(
        tenant=stored.acme,
        device="core1",
        version="latest",
        backup_id=stored.core1,
    )
    answer = full.request(method, there, params={"limt": "5"}, json={})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith("limt: is no parameter; "), answer.text


def test_the_answer_names_the_parameters_that_are_there(full: httpx.Client) -> None:
    answer = full.get("/v1/tenants?limit=5&limt=5")
    assert answer.json()["detail"] == "limt: is no parameter; known are cursor, limit"
    assert full.get("/v1/tenants?limit=5").status_code == 200


def test_who_has_no_token_learns_nothing_of_parameters(full: httpx.Client) -> None:
    answer = full.get("/v1/tenants?limt=5", headers={"Authorization": ""})
    assert answer.status_code == 401
    assert "limt" not in answer.text


def test_what_hides_itself_in_a_name_is_shown_and_cut(full: httpx.Client) -> None:
    answer = full.get("/v1/tenants", params={"\x1b\u202e" + "x" * 500: ""})
    assert answer.status_code == 422
    assert answer.json()["detail"].isprintable()
    assert len(answer.json()["detail"]) < 120
