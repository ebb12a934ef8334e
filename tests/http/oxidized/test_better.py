"""Where the look-alike is better than the original."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from confkeep.labels import Labels
from tests.http.oxidized.conftest import FOREIGN, SECRET, Oxidized, backup, commit
from tests.http.serving import in_process, new_token
from worker.store.repository.tenant_repository import repository_path


@pytest.mark.parametrize(
    "name",
    [
        "r1.example.net",
        "edge/r1.example.net",
        "acme/r1.example.net",
        "acme/edge/r1.example.net",
        "R1.Example.NET",
        "10.0.0.1",
        "edge/10.0.0.1",
    ],
)
def test_a_node_is_found_with_and_without_its_group(http: httpx.Client, name: str) -> None:
    assert http.get(f"/node/show/{name}.json").json()["full_name"] == "edge/r1.example.net"
    assert http.get(f"/node/fetch/{name}").text.startswith("# v1\n")
    assert len(http.get("/node/version.json", params={"node_full": name}).json()) == 2


def test_a_node_is_found_by_its_id(oxidized: Oxidized, http: httpx.Client) -> None:
    assert http.get(f"/node/show/{oxidized.r1}.json").json()["name"] == "r1.example.net"


def test_a_node_without_a_group_is_found_in_the_group_that_lists_show(http: httpx.Client) -> None:
    assert http.get("/node/fetch/default/r2").status_code == 200
    assert http.get("/node/fetch/edge/r2").status_code == 404


def test_versions_and_diffs_need_no_group(oxidized: Oxidized, http: httpx.Client) -> None:
    """LibreNMS sends none."""
    old, new = oxidized.shas
    asked = {"node": "r1.example.net", "oid": new, "format": "text"}
    assert "10.0.0.1" in http.get("/node/version/view", params=asked).text
    assert "\n+add" in http.get("/node/version/diffs", params={**asked, "oid2": old}).text


@pytest.mark.parametrize(
    "path",
    [
        "/node/show/nope",
        "/node/fetch/nope",
        "/node/fetch/wrong/r2",
        "/node/version?node_full=nope",
        "/node/version",
        "/node/version/view?node=nope&oid=dead",
        "/node/version/view?node=r2&oid=dead",
        "/node/version/view?node=r2&oid=latest",
        "/node/version/view?node=r2&oid=2026-10-01",
        "/node/version/view?node=r2",
        "/node/version/diffs?node=r2&oid=dead&oid2=beef",
        "/node/version/diffs?node=nope&oid=dead&oid2=beef",
        "/node/next/nope",
        "/nodes/vars/x",
    ],
)
def test_what_is_unknown_is_404_with_a_short_text(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    assert len(answer.text) < 200
    asked = http.get(path + ("&" if "?" in path else "?") + "format=json")
    assert asked.status_code == 404
    assert isinstance(asked.json(), list)


def test_versions_of_one_second_stand_in_the_order_of_the_commits(
    oxidized: Oxidized, http: httpx.Client
) -> None:
    found = http.get("/node/version.json?node_full=edge/r1.example.net").json()
    assert found[0]["date"] == found[1]["date"]
    assert [each["oid"] for each in found] == oxidized.shas[::-1]


def test_a_parameter_that_oxidized_does_not_know_is_left_alone_as_there(
    http: httpx.Client,
) -> None:
    for path in ("/nodes.json?limt=5", "/node/fetch/edge/r1.example.net?x=1", "/reload.json?x=1"):
        assert http.get(path).status_code == 200, path
    assert http.put("/node/next/r2?x=1", json={}).status_code == 200
    # It gets as far as the body.
    assert http.post("/ingest/oxidized?x=1", json={}).json()["detail"].startswith("node: ")


def test_stats_are_numbers(http: httpx.Client) -> None:
    found = http.get("/nodes/stats.json").json()
    assert found["r1.example.net"] == {"counter": {"success": 2}}
    assert found["r2"] == {"counter": {"success": 1}}


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(?<=a)b", r"(a)\1", ""])
def test_what_is_no_regular_expression_is_400(http: httpx.Client, pattern: str) -> None:
    answer = http.post("/nodes/conf_search.json", data={"search_in_conf_textbox": pattern})
    assert answer.status_code == 400
    assert isinstance(answer.json(), list)


def test_a_regular_expression_takes_linear_time(http: httpx.Client) -> None:
    """This one takes a backtracking matcher hours."""
    began = time.monotonic()
    form = {"search_in_conf_textbox": "(a|aa|[a-z]*)*(.*)*.{0,90}!$"}
    assert http.post("/nodes/conf_search.json", data=form).json() == []
    assert time.monotonic() - began < 5


def test_texts_are_masked_unless_the_token_may_reveal(
    oxidized: Oxidized, http: httpx.Client
) -> None:
    masked = http.get("/node/fetch/r3").text
    assert "open-sesame" not in masked
    assert masked.count("\n") == SECRET.count(b"\n")
    revealed = http.get("/node/fetch/r3", auth=("any", oxidized.reveals))
    assert revealed.content == SECRET


def test_a_search_finds_no_secret_unless_the_token_may_reveal(
    oxidized: Oxidized, http: httpx.Client
) -> None:
    form = {"search_in_conf_textbox": "open-s"}
    assert http.post("/nodes/conf_search.json", data=form).json() == []
    found = http.post("/nodes/conf_search.json", data=form, auth=("any", oxidized.reveals))
    assert [each["node"] for each in found.json()] == ["r3"]


@pytest.mark.parametrize("way", ["basic", "header", "bearer"])
def test_the_token_comes_in_three_ways(oxidized: Oxidized, http: httpx.Client, way: str) -> None:
    headers = {
        "header": {"X-Auth-Token": oxidized.reads},
        "bearer": {"Authorization": f"Bearer {oxidized.reads}"},
    }
    with httpx.Client(base_url=http.base_url) as client:
        auth = ("any", oxidized.reads) if way == "basic" else None
        answer = client.get("/nodes.json", headers=headers.get(way), auth=auth)
        assert answer.status_code == 200
        assert client.get("/nodes.json").status_code == 401


def test_the_group_is_the_tenant_where_the_token_may_see_several(
    oxidized: Oxidized, http: httpx.Client
) -> None:
    found = http.get("/nodes.json", auth=("any", oxidized.all)).json()
    assert {node["group"] for node in found} == {"acme", "other"}
    answer = http.get("/node/fetch/acme/r2", auth=("any", oxidized.all))
    assert answer.text == "/system identity\nset name=r2\n"


def test_another_tenants_node_is_as_unknown_as_any(http: httpx.Client) -> None:
    foreign = FOREIGN.decode()
    for path in (f"/node/show/{foreign}.json", f"/node/fetch/other/{foreign}"):
        assert http.get(path).status_code == 404
    assert foreign not in http.get("/nodes.json").text


def test_of_nodes_with_one_name_the_commit_tells_which(
    oxidized: Oxidized, http: httpx.Client
) -> None:
    twins = str(uuid.uuid4())
    store = oxidized.settings.git_store_path
    texts = {"a": b"# of a\n", "b": b"# of b\n"}
    made = [backup(str(uuid.uuid4()), text, Labels("twin", group=g)) for g, text in texts.items()]
    shas = commit(store, twins, "twins", *made)
    auth = ("any", oxidized.all)
    assert http.get("/node/fetch/twins/twin", auth=auth).status_code == 404
    assert "2 nodes" in http.get("/node/fetch/twin", auth=auth).text
    for sha, text in zip(shas, texts.values(), strict=False):
        asked = {"node": "twin", "oid": sha, "format": "text"}
        assert http.get("/node/version/view", params=asked, auth=auth).content == text
    assert http.get("/node/fetch/twins/b/twin", auth=auth).content == b"# of b\n"


@contextmanager
def _damaged(repository: Path, part: str) -> Iterator[None]:
    """A repository whose ref leads nowhere, or whose packs are zeros."""
    [path, *_] = repository.glob(part)
    sound = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(b"f" * 40 + b"\n" if part.startswith("refs") else bytes(len(sound)))
    try:
        yield
    finally:
        path.write_bytes(sound)


@pytest.mark.parametrize("part", ["refs/heads/main", "objects/pack/*.pack"])
def test_a_damaged_tenant_takes_no_other_one_away(oxidized: Oxidized, part: str) -> None:
    there = repository_path(oxidized.settings.git_store_path, oxidized.other)
    sha = oxidized.shas[0]
    paths = (
        *("/nodes.json", "/nodes/stats.json", "/node/show/r2.json", "/node/fetch/acme/r2"),
        "/node/version.json?node_full=acme/r1.example.net",
        f"/node/version/view.json?node=r1.example.net&oid={sha}",
        f"/node/version/diffs?node=r1.example.net&oid={oxidized.shas[1]}&oid2={sha}",
    )
    search = {"search_in_conf_textbox": "name=r2"}
    with _damaged(there, part), in_process(oxidized.settings) as client:
        client.auth = ("any", oxidized.all)
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert FOREIGN.decode() not in answer.text or part != "refs/heads/main"
        assert "r2" in {node["name"] for node in client.get("/nodes.json").json()}
        found = client.post("/nodes/conf_search.json", data=search)
        assert [each["node"] for each in found.json()] == ["r2"]
        assert client.put("/node/next/acme/r2", json={}).status_code == 200
        # Nobody takes what cannot be read for what is not there.
        assert client.get(f"/node/fetch/other/{FOREIGN.decode()}").status_code == 503
        client.auth = ("any", new_token(oxidized.client, part, [oxidized.other]))
        assert client.get(f"/node/fetch/{FOREIGN.decode()}").status_code == 503
        if part == "refs/heads/main":
            assert client.get("/nodes.json").status_code == 503
