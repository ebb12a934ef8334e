"""The OpenAPI document is kept in the pages, and whatever fits it, or does not, gets no answer of 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from tests.http.conftest import Stored
from tests.http.serving import new_token, serve
from worker.http.tokens import RIGHTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
OPERATIONS = [
    (method, path)
    for path, operations in json.loads(DOCUMENT.read_text("utf-8"))["paths"].items()
    for method in operations
]
#: Requests of each operation: of the short form, and of the long one.
FEW, MANY = 6, 2_500


@pytest.fixture(scope="module")
def address(stored: Stored) -> Iterator[str]:
    more = stored.settings.model_copy(update={"http_requests": 10**9, "http_mib": 10**6})
    with serve(more) as address:
        yield address


@pytest.fixture(scope="module")
def headers(stored: Stored) -> dict[str, str]:
    """Of a token that may do everything, for one tenant."""
    token = new_token(stored.client, "schema", [stored.acme], RIGHTS)
    return {"Authorization": f"Bearer {token}", "X-Auth-Token": token}


def ask(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str, count: int
) -> None:
    document = json.loads(DOCUMENT.read_text("utf-8"))
    # What is there, among what is not.
    names = {
        "tenant": [stored.acme, "acme"],
        "device": [stored.core1, "core1"],
        "version": ["latest", stored.shas[0]],
    }
    for parameter in document["paths"][path][method].get("parameters", []):
        if parameter["name"] in names and parameter["in"] == "path":
            parameter["schema"] = {
                "anyOf": [{"enum": names[parameter["name"]]}, {"type": "string"}]
            }
        if parameter["name"] in ("wait", "feed"):
            # No request shall wait.
            parameter["schema"] = {"enum": [0 if parameter["name"] == "wait" else "normal"]}
    operation = schemathesis.openapi.from_dict(document)[path][method]
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=operation.as_strategy(modes[0]) | operation.as_strategy(modes[1]))
    def each(data: Any) -> None:
        answer = data.call(base_url=address, headers=headers, timeout=60)
        assert answer.status_code != 500, (data.as_curl_command(), answer.text)
        assert stored.secret1 not in answer.text
        assert stored.other not in answer.text

    each()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_gets_an_answer_of_500(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str
) -> None:
    ask(stored, address, headers, method, path, FEW)


@pytest.mark.chaos
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_of_many_gets_an_answer_of_500(
    stored: Stored, address: str, headers: dict[str, str], method: str, path: str
) -> None:
    ask(stored, address, headers, method, path, MANY)
