"""Each answer has the shape and the content type of oxidized-web's."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.http.oxidized.conftest import Oxidized

JSON = "application/json"
TEXT = "text/plain;charset=utf-8"

#: A moment as Oxidized writes it of nodes, and of versions.
UTC = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
ZONED = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000"


class Like:
    """Equal to each text that the expression matches, or to each number."""

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = pattern

    def __eq__(self, other: object) -> bool:
        if self._pattern is None:
            return isinstance(other, int | float)
        return isinstance(other, str) and re.fullmatch(self._pattern, other) is not None

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"like {self._pattern or 'a number'}"


def node(name: str, group: str | None, address: str) -> dict[str, Any]:
    return {
        "name": name,
        "full_name": name if group is None else f"{group}/{name}",
        "ip": address,
        "group": group,
        "model": "RouterOS",
        "last": {"start": Like(UTC), "end": Like(UTC), "status": "success", "time": Like()},
        "vars": {},
        "mtime": Like(UTC),
    }


def listed(name: str, group: str | None, address: str) -> dict[str, Any]:
    found = node(name, group, address)
    return {**found, "group": group or "default", "status": "success", "time": Like(UTC)}


R1 = ("r1.example.net", "edge", "10.0.0.1")
R2 = ("r2", None, "10.0.0.2")
R3 = ("r3", "site/north", "10.0.0.3")
AUTHOR = {"name": Like(".+"), "email": Like(".+@.+"), "time": Like(ZONED)}
VERSION = {
    "date": Like(ZONED),
    "time": Like(ZONED),
    "oid": Like("[0-9a-f]{40}"),
    "author": AUTHOR,
    "message": "update edge/r1.example.net",
}
FIRST_LINES = ["# v1\n", "/ip address\n", 'add address=10.0.0.9/24 comment="<x>"\n']
SECOND_LINES = ["# v1\n", "/ip address\n", "add address=10.0.0.1/24\n"]
DIFF_LINES = [
    "diff --git a/edge/r1.example.net b/edge/r1.example.net\n",
    "index be2ed74..3adc235 100644\n",
    "--- a/edge/r1.example.net\n",
    "+++ b/edge/r1.example.net\n",
    "@@ -1,3 +1,3 @@\n",
    " # v1\n",
    " /ip address\n",
    '-add address=10.0.0.9/24 comment="<x>"\n',
    "+add address=10.0.0.1/24\n",
]

#: Path and query, with {0} and {1} for the ids of the two commits -> what is answered.
ANSWERS: list[tuple[str, Any]] = [
    ("/nodes/group/edge.json", [listed(*R1)]),
    ("/nodes/group/edge?format=json", [listed(*R1)]),
    ("/nodes/group/default.json", [listed(*R2)]),
    ("/nodes/group/site/north.json", [listed(*R3)]),
    ("/nodes/group/nowhere.json", []),
    ("/node/show/r1.example.net?format=json", node(*R1)),
    ("/node/show/r1.example.net.json", node(*R1)),
    ("/node/show/10.0.0.1?format=json", node(*R1)),
    ("/node/fetch/edge/r1.example.net", "".join(SECOND_LINES)),
    ("/node/fetch/edge/r1.example.net?format=json", SECOND_LINES),
    ("/node/fetch/edge/r1.example.net.json", SECOND_LINES),
    ("/node/fetch/r2", "/system identity\nset name=r2\n"),
    ("/node/version?node_full=edge/r1.example.net&format=json", [VERSION, VERSION]),
    ("/node/version.json?node_full=edge/r1.example.net", [VERSION, VERSION]),
    (
        "/node/version/view?node=r1.example.net&group=edge&oid={0}&format=text",
        "".join(FIRST_LINES),
    ),
    ("/node/version/view.json?node=r1.example.net&group=edge&oid={0}", FIRST_LINES),
    (
        "/node/version/view?node=r1.example.net&group=edge&oid={1}&date=x&num=2&epoch=1&format=text",
        "".join(SECOND_LINES),
    ),
    (
        "/node/version/diffs?node=r1.example.net&group=edge&oid={1}&oid2={0}&format=text",
        "".join(DIFF_LINES),
    ),
    ("/node/version/diffs?node=r1.example.net&group=edge&oid={1}&format=text", "No diff available"),
    (
        "/node/version/diffs?node=r1.example.net&group=edge&oid={1}&oid2={1}&format=text",
        "No diff available",
    ),
    (
        "/node/version/diffs?node=r1.example.net&group=edge&oid={1}&oid2={0}&format=json",
        DIFF_LINES,
    ),
    ("/reload.json", ["reloaded list of nodes"]),
    ("/reload?node=r2&format=json", ["reloaded r2"]),
    ("/reload", "reloaded list of nodes"),
]


@pytest.mark.parametrize(("path", "expected"), ANSWERS, ids=[path for path, _ in ANSWERS])
def test_an_answer_is_that_of_oxidized(
    oxidized: Oxidized, http: httpx.Client, path: str, expected: Any
) -> None:
    answer = http.get(path.format(*oxidized.shas))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (TEXT if isinstance(expected, str) else JSON)
    assert (answer.text if isinstance(expected, str) else answer.json()) == expected


@pytest.mark.parametrize(
    "path", ["/nodes.json", "/nodes?format=json", "/nodes/model/RouterOS.json"]
)
def test_all_nodes_are_listed(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.headers["content-type"] == JSON
    found = sorted(answer.json(), key=lambda node: node["name"])
    assert found == [listed(*R1), listed(*R2), listed(*R3)]
    assert list(found[0]) == list(listed(*R1)), "the fields stand in Oxidized's order"


def test_a_search_tells_the_nodes_that_have_a_matching_line(http: httpx.Client) -> None:
    answer = http.post(
        "/nodes/conf_search?format=json", data={"search_in_conf_textbox": "^add address=.*24$"}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == [{"node": "r1.example.net", "full_name": "edge/r1.example.net"}]


def test_a_form_may_be_of_either_kind(http: httpx.Client) -> None:
    parts = {"search_in_conf_textbox": (None, "identity")}
    answer = http.post("/nodes/conf_search.json", files=parts)
    assert [each["node"] for each in answer.json()] == ["r2"]


def test_a_name_may_be_percent_encoded(http: httpx.Client) -> None:
    """LibreNMS encodes group and name, slashes too."""
    assert http.get("/node/fetch/site%2Fnorth/r3").status_code == 200
    assert http.get("/node/show/site%2Fnorth%2Fr3?format=json").json()["name"] == "r3"
