"""Whatever a client sends, the look-alike and the ingest answer it, and tell nothing of another tenant."""

from __future__ import annotations

import http.client
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from confkeep.broker import keys
from confkeep.queue import events
from tests.http.conftest import without_worker
from tests.http.oxidized.conftest import FOREIGN, Oxidized
from tests.http.oxidized.fuzzing import Fuzzer, Request
from worker.engine.directory import names_of
from worker.store.repository.tenant_repository import open_repository, repository_path

#: Clients that ask at the same time.
_CLIENTS = 8
#: Requests of the long form, which can so be run in pieces; each has a seed of its own.
_MANY = int(os.environ.get("CONFKEEP_FUZZ_REQUESTS", "100000"))


@pytest.fixture
def address(oxidized: Oxidized) -> Iterator[str]:
    with without_worker(oxidized.settings) as address:
        yield address


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    "requests",
    [pytest.param(400, id="short"), pytest.param(_MANY, id="long", marks=pytest.mark.chaos)],
)
def test_no_request_fails_and_none_learns_of_another_tenant(
    oxidized: Oxidized, address: str, requests: int
) -> None:
    seed = int(os.environ.get("CONFKEEP_FUZZ_SEED", "0") if requests < 1_000 else time.time())
    repository = open_repository(repository_path(oxidized.settings.git_store_path, oxidized.other))
    [foreign] = names_of(repository)
    tip = str(repository.tip())
    words = [
        *(
            "r1.example.net",
            "edge",
            "r2",
            "r3",
            "site/north",
            "acme",
            "other",
            "10.0.0.1",
            "10.0.0.4",
        ),
        *(
            FOREIGN.decode(),
            f"other/{FOREIGN.decode()}",
            foreign,
            oxidized.other,
            oxidized.acme,
            tip,
        ),
        *(oxidized.r1, *oxidized.shas, oxidized.shas[0][:7], "RouterOS", "add", "address"),
    ]
    tokens = [oxidized.reads, oxidized.reveals, *[oxidized.enqueues] * 5, "wrong"]
    markers = [each.encode() for each in (FOREIGN.decode(), foreign, oxidized.other, tip)]
    before = len(_wishes(oxidized))
    statuses: Counter[int] = Counter()

    def ask(client: int) -> None:
        """The part of one of the clients, which ask at the same time."""
        fuzzer = Fuzzer(seed + client, words, tokens)
        to = urlsplit(address)
        with closing(http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)) as server:
            for number in range(requests // _CLIENTS):
                request = fuzzer.request()
                what = f"request {number} of seed {seed + client}: {request!r}"
                status, answer = _send(server, request)
                statuses[status] += 1
                assert status < 500 or status == 503, f"{status} for {what}"
                for marker in markers:
                    told = marker in answer and not request.says(marker)
                    assert not told, f"{marker!r} in the answer to {what}"
                if client == number % 1_000 == 0:
                    print(f"{sum(statuses.values()):,}: {sorted(statuses.items())}", flush=True)

    with ThreadPoolExecutor(_CLIENTS) as pool:
        for part in [pool.submit(ask, client) for client in range(_CLIENTS)]:
            part.result()
    print(f"seed {seed}: {dict(sorted(statuses.items()))}")
    assert statuses[200] > requests // 10, statuses
    assert statuses[0] < requests // 20, statuses
    assert not oxidized.client.xlen(keys.inbox(oxidized.other))
    new = _wishes(oxidized)[before:]
    assert {event.tenant_id for event in new} <= {oxidized.acme}


def _send(connection: http.client.HTTPConnection, request: Request) -> tuple[int, bytes]:
    """The status and the whole answer, headers too."""
    connection.putrequest(request.method, request.target, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    if request.body:
        connection.putheader("Content-Length", str(len(request.body)))
    try:
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        head = "".join(f"{name}: {value}\n" for name, value in answer.getheaders())
        return answer.status, head.encode("latin-1", "replace") + answer.read()
    except ConnectionError:
        # A refusal that does not wait for the body may close the connection under it.
        connection.close()
        return 0, b""


def _wishes(oxidized: Oxidized) -> list[events.Event]:
    kept: Any = oxidized.client.xrange(keys.EVENTS)
    found = [events.parse(text) for _id, fields in kept for text in fields.values()]
    return [event for event in found if event is not None and event.type == events.REQUESTED]
