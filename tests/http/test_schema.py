"""Whatever fits the OpenAPI document, or does not, gets an answer that the document has, and none of 500."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.http.conftest import Stored, without_worker
from tests.http.serving import new_token
from tests.judge import backup_ids
from worker.http.tokens import ALL, RIGHTS
from worker.store.repository.tenant_repository import repository_path

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
OPERATIONS = [
    (method, path)
    for path, operations in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items()
    for method in operations
]
#: Requests of each operation: of the short form, and of the long one.
FEW, MANY = 6, 1_000


@pytest.fixture(scope="module")
def address(stored: Stored) -> Iterator[str]:
    more = {"http_requests": 10**9, "http_mib": 10**6}
    with without_worker(stored.settings.model_copy(update=more)) as address:
        yield address


@pytest.fixture(scope="module")
def headers(stored: Stored) -> dict[str, str]:
    """Of a token that may do everything, for one tenant."""
    return headers_of(stored, stored.acme)


def headers_of(stored: Stored, tenant: str) -> dict[str, str]:
    token = new_token(stored.client, f"schema {tenant}", [tenant], RIGHTS)
    return {"Authorization": f"Bearer {token}", "X-Auth-Token": token}


def documents(stored: Stored) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document, and one that allows what is there and nothing else, so that answers of 200 come."""
    there: dict[str, list[object]] = {
        "tenant": [stored.acme, stored.acme[:8]],
        "device": [stored.core1, "core1"],
        "version": ["latest", "latest~1", stored.shas[0]],
        "against": ["previous", "latest~1", "device:edge1"],
        "backup_id": [*backup_ids(repository_path(stored.settings.git_store_path, stored.acme))],
        "q": ["name", "name=.*1", "password"],
        "group": ["core"],
    }
    moments: list[object] = ["2d", "2026-10-03"]
    there |= dict.fromkeys(("at", "stale", "changed_since", "before"), moments)
    whole = json.loads(DOCUMENT.read_text("utf-8"))
    for operations in whole["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in ("wait", "feed"):
                    # No request shall wait.
                    parameter["schema"] = {"enum": [0 if parameter["name"] == "wait" else "normal"]}
    known = json.loads(json.dumps(whole))
    for operations in known["paths"].values():
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            for parameter in parameters:
                if parameter["name"] in there:
                    parameter["schema"] = {"enum": there[parameter["name"]]}
            free = ("cursor", "since", "types", "idempotency-key")
            operation["parameters"] = [p for p in parameters if p["name"].lower() not in free]
    schemas = known["components"]["schemas"]
    export = {"enum": ["/system identity\nset name=core1\n"]}
    schemas["JsonBackup"] = {
        "type": "object",
        "required": ["export"],
        "properties": {"export": export},
    }
    schemas["JsonBackup"]["additionalProperties"] = False
    schemas["LabelsBody"]["properties"] = {"name": {"enum": ["core1"]}}
    schemas["LabelsBody"]["required"] = ["name"]
    ingest = known["paths"]["/ingest/oxidized"]["post"]["requestBody"]["content"]
    ingest["application/json"]["schema"]["properties"] |= {
        "node": {"enum": ["core1"]},
        "config": export,
    }
    return whole, known


def ask(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str, count: int
) -> None:
    # Each process of a run collects this module, and few run it: the import takes as long as all others.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi import checks

    # What an answer may differ in from the document.
    compared = [
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    whole, known = (
        schemathesis.openapi.from_dict(each)[path][method] for each in documents(stored)
    )
    statuses: Counter[int] = Counter()
    if path == "/metrics":
        # They are of all tenants.
        headers = headers_of(stored, ALL)

    def each(data: Any) -> None:
        answer = data.call(base_url=address, headers=headers, timeout=60)
        statuses[answer.status_code] += 1
        assert answer.status_code != 500, (data.as_curl_command(), answer.content)
        data.validate_response(answer, checks=compared)
        assert stored.secret1.encode() not in answer.content
        assert stored.other.encode() not in answer.content or path == "/metrics"

    positive, negative = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    for given_by, part in (
        (known.as_strategy(positive), count // 3),
        (whole.as_strategy(positive) | whole.as_strategy(negative), count - count // 3),
    ):
        run = settings(
            max_examples=part,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        run(given(data=given_by)(each))()
    print(f"{method} {path}: {sorted(statuses.items())}")
    # Nothing is erased: the body would have to repeat the id.
    assert statuses[200] + statuses[202] or method == "delete", statuses


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_each_answer_is_one_that_the_document_has(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str
) -> None:
    ask(stored, address, headers, method, path, FEW)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_each_answer_of_many_is_one_that_the_document_has(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str
) -> None:
    ask(stored, address, headers, method, path, MANY)
