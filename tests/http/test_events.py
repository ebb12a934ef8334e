"""Events by HTTP: pages, pages that wait and streams tell the same, and of the caller's tenants only."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.http.conftest import handing_over
from tests.http.serving import new_token
from tests.servers import Deployment

TENANT, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
EXPORT = "# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=new1\n"


@pytest.fixture(scope="module")
def portal(running: Deployment) -> Iterator[httpx.Client]:
    with handing_over(running, [TENANT, OTHER]) as portal:
        yield portal


def commit(portal: httpx.Client, tenant: str = TENANT) -> str:
    address = f"/v1/tenants/{tenant}/devices/{uuid.uuid4()}/backups"
    answer = portal.post(address, json={"export": EXPORT}, params={"wait": 30})
    return str(answer.json()["receipt"]["sha"])


def test_pages_go_on_where_the_last_one_ended(running: Deployment, portal: httpx.Client) -> None:
    shas = [commit(portal) for _ in range(3)]
    commit(portal, OTHER)
    with running.client() as client:
        headers = {"Authorization": f"Bearer {new_token(client, 'mine', [TENANT], ['read'])}"}
    seen: list[str] = []
    params = {"limit": "2", "types": "backup.committed"}
    while True:
        page = portal.get("/v1/events", params=params, headers=headers).json()
        if not page["events"]:
            break
        seen += [event["data"]["sha"] for event in page["events"]]
        params["since"] = page["cursor"]
    assert seen == shas
    assert portal.get("/v1/events", params={"types": "nonsense"}).status_code == 422
    assert portal.get("/v1/events", params={"since": "nonsense!"}).status_code == 422


def test_a_long_poll_waits_for_the_next_event(portal: httpx.Client) -> None:
    cursor = portal.get("/v1/events", params={"since": "now"}).json()["cursor"]
    found: list[str] = []
    thread = threading.Timer(0.2, lambda: found.append(commit(portal)))
    thread.start()
    page = portal.get("/v1/events", params={"since": cursor, "feed": "longpoll"}, timeout=30).json()
    thread.join()
    assert [event["data"]["sha"] for event in page["events"]] == found


def test_a_stream_tells_each_event_and_where_to_go_on(portal: httpx.Client) -> None:
    cursor = portal.get("/v1/events", params={"since": "now"}).json()["cursor"]
    first, second = commit(portal), commit(portal)
    params = {"since": cursor, "feed": "eventsource"}
    lines: list[str] = []
    with portal.stream("GET", "/v1/events", params=params) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            lines.append(line)
            if line.startswith("data: "):
                break
    id_, type_, data = lines[-3:]
    assert type_ == "event: backup.committed"
    assert json.loads(data.removeprefix("data: "))["data"]["sha"] == first
    again = portal.get("/v1/events", headers={"Last-Event-ID": id_.removeprefix("id: ")}).json()
    assert [event["data"]["sha"] for event in again["events"]] == [second]
