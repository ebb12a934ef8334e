"""A process that does not reach the store answers the same, through the workers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from confkeep.settings import get_settings
from tests.http.conftest import handing_over
from tests.http.serving import in_process, new_token
from tests.servers import Deployment

TENANT, DEVICE, NEVER = (str(uuid.UUID(int=number)) for number in (71, 72, 73))
EXPORT = "# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=core1\n"
SECRET = "hunter2-and-more"
LATER = EXPORT + f"/ppp secret\nadd name=anna password={SECRET}\n"
BINARY = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."

HERE = f"/v1/tenants/{TENANT}"
PATHS = (
    "/v1/tenants",
    HERE,
    f"{HERE}/devices?q=core&stale=0s&limit=1",
    f"{HERE}/devices/core1",
    f"{HERE}/devices/core1/versions?limit=1",
    f"{HERE}/devices/core1/versions?since=2020-01-01&before=2100-01-01&changed=config",
    f"{HERE}/devices/core1/versions/latest~1",
    f"{HERE}/devices/core1/versions/latest/export",
    f"{HERE}/devices/core1/versions/latest/binary",
    f"{HERE}/devices/core1/versions/latest/diff",
    f"{HERE}/devices/core1/versions/latest/diff?format=json",
    f"{HERE}/commits?limit=1",
    f"/v1/search?q={SECRET}&context=1",
    # Errors too.
    f"{HERE}/devices/core9",
    f"{HERE}/devices/core1/versions/ffffffff",
    f"{HERE}/devices/core1/versions/nonsense",
    f"/v1/tenants/{NEVER}/devices",
)


@pytest.fixture(scope="module")
def both(running: Deployment) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client of a process that reads the store, and one of a process that asks."""
    with handing_over(running, [TENANT]) as here:
        away = {"http_store": False, "git_store_path": "/nowhere"}
        with in_process(get_settings().model_copy(update=away)) as there:
            there.headers["authorization"] = here.headers["authorization"]
            for export in (EXPORT, LATER):
                there.post(
                    f"{HERE}/devices/{DEVICE}/backups",
                    files={"export": ("e", export), "binary": ("b", BINARY)},
                    params={"wait": 30},
                ).raise_for_status()
            yield here, there


@pytest.mark.parametrize("path", PATHS)
def test_both_ways_answer_the_same(both: tuple[httpx.Client, httpx.Client], path: str) -> None:
    here, there = (client.get(path) for client in both)
    assert there.status_code == here.status_code
    if here.status_code < 400:
        assert (there.content, there.headers.get("etag")) == (
            here.content,
            here.headers.get("etag"),
        )
        assert here.content
    else:
        assert there.json() == here.json(), "its hint too"


def test_secrets_are_masked_where_the_worker_is(
    running: Deployment, both: tuple[httpx.Client, httpx.Client]
) -> None:
    with running.client() as client:
        headers = {"Authorization": f"Bearer {new_token(client, 'masked', [TENANT], ['read'])}"}
    answer = both[1].get(f"{HERE}/devices/core1/versions/latest/export", headers=headers)
    assert (answer.status_code, SECRET in answer.text) == (200, False)


def test_a_question_that_no_worker_answers_ends(
    running: Deployment, both: tuple[httpx.Client, httpx.Client]
) -> None:
    """While workers are away, the process that reads the store goes on; the other one says so in time."""
    running.workers.pop().stop()
    assert both[0].get(f"{HERE}/devices").status_code == 200
    began = time.monotonic()
    answer = both[1].get(f"{HERE}/devices", timeout=10)
    assert time.monotonic() - began < 5
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert int(answer.headers["retry-after"]) > 0
