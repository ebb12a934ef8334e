"""What a client may hold, and what is told of its request: slow, silent and hostile ones."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from confkeep.errors import AccessDenied, TooManyRequests
from tests.http.conftest import Stored
from tests.http.serving import in_process, new_token, serve
from tests.scraping import series, value
from tests.servers import wait_for
from worker.http import connections, guard, tokens
from worker.http.access import Door
from worker.http.listening import listen
from worker.observe import metrics


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        yield connection


def ended_after_s(connection: socket.socket) -> float:
    """Seconds until the server has ended the connection."""
    began = time.monotonic()
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_a_body_that_stops_coming_is_given_up(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.3)
    token = new_token(stored.client, f"slow {uuid.uuid4()}")
    device = f"/v1/tenants/{stored.acme}/devices/{stored.core1}/backups"
    head = (
        f"POST {device} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    with serve(stored.settings) as address, connected(address) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert ended_after_s(connection) < 5


def test_a_refusal_reaches_a_client_that_still_sends(stored: Stored) -> None:
    """The server would reset a connection that it closes over bytes that it did not read."""
    body = b"x" * 500_000
    head = (
        "POST /v1/tenants/x/devices/y/backups HTTP/1.1\r\nHost: x\r\nX-Auth-Token: ck_none\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with serve(stored.settings) as address, connected(address) as connection:
        for _ in range(3):
            connection.sendall(head.encode() + body[:1000])
            time.sleep(0.1)
            connection.sendall(body[1000:])
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert (answer.status, answer.getheader("connection")) == (401, None)
            assert b"AccessDenied" in answer.read()


def test_no_answer_waits_for_the_client_to_acknowledge_its_head() -> None:
    """Clients put that off for 40 ms, and the kernel would hold the body back until then."""
    with (
        listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_client_that_waits_for_leave_to_send_is_refused_at_once(stored: Stored) -> None:
    head = (
        "POST /v1/tenants/x/devices/y/backups HTTP/1.1\r\nHost: x\r\nX-Auth-Token: ck_none\r\n"
        "Content-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    with serve(stored.settings) as address, connected(address) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("begun", [b"", b"GET /v1/health HT"])
def test_a_connection_without_a_request_is_ended(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "LOOK_S", 0.1)
    with serve(stored.settings) as address, connected(address) as connection:
        connection.sendall(begun)
        assert ended_after_s(connection) < 5


def test_an_answer_that_nobody_takes_is_given_up(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TAKE_S", 0.3)
    monkeypatch.setattr(connections, "LOOK_S", 0.1)
    monkeypatch.setattr("worker.http.routes.versions.file_answer", large_answer)
    token = new_token(stored.client, f"lazy {uuid.uuid4()}")
    path = f"/v1/tenants/{stored.acme}/devices/core1/versions/latest/export"
    with serve(stored.settings) as address, connected(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n\r\n".encode()
        )
        assert connection.recv(8) == b"HTTP/1.1"
        time.sleep(1)
        got = 0
        try:
            while part := connection.recv(65_536):
                got += len(part)
        except ConnectionResetError:
            pass
        assert got < 32 * 1024**2


def large_answer(*_: object, **__: object) -> object:
    from fastapi import Response

    return Response(b"x" * 64 * 1024**2)


def test_other_callers_are_served_beside_slow_ones(stored: Stored) -> None:
    with serve(stored.settings) as address:
        slow = [
            socket.create_connection((httpx.URL(address).host, httpx.URL(address).port or 0))
            for _ in range(50)
        ]
        for connection in slow:
            connection.sendall(b"POST /v1/tenants/x/devices/y/backups HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        assert httpx.get(f"{address}/v1/health").status_code == 200
        assert time.monotonic() - began < 2
        for connection in slow:
            connection.close()


def test_the_access_log_has_no_secrets(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    def answered() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.message == "answered a request"]

    token = new_token(stored.client, f"logged {uuid.uuid4()}")
    # The last line is there when the server has ended: a client has its answer before.
    with (
        caplog.at_level(logging.INFO, "confkeep.http"),
        in_process(stored.settings, token) as client,
    ):
        client.get("/v1/search", params={"q": "planted-in-the-query"})
        client.get("/v1/tenants/planted%0Aline/devices")
        # A line is written when its answer is out.
        wait_for(lambda: len(answered()) == 2, "both lines")
    (first, second) = answered()
    assert (vars(first)["path"], vars(first)["status"]) == ("/v1/search", 200)
    assert vars(second)["path"] == "/v1/tenants/planted%0Aline/devices"
    assert vars(first)["token_id"] in {each.id for each in tokens.list_tokens(stored.client)}
    # The client of this test says what it asks for, where an earlier test lets it.
    for record in (each for each in caplog.records if each.name.partition(".")[0] != "httpx"):
        assert token not in str(vars(record))
        assert "planted-in-the-query" not in str(vars(record))


def test_requests_are_counted_by_route(stored: Stored, full: httpx.Client) -> None:
    for name in ("core1", "edge1", "nobody"):
        full.get(f"/v1/tenants/{stored.acme}/devices/{name}")
    found = series(full.get("/metrics").text)
    route = "/v1/tenants/{tenant}/devices/{device}"
    for status, least in (("200", 2), ("404", 1)):
        labels = {"method": "GET", "route": route, "status": status}
        assert value(found, metrics.HTTP_REQUESTS.name, **labels) >= least
    assert value(found, metrics.UP.name) == 1


def test_metrics_are_only_for_who_sees_all_tenants(confined: httpx.Client) -> None:
    assert confined.get("/metrics").status_code == 403


def test_the_status_tells_each_its_own(
    stored: Stored, full: httpx.Client, confined: httpx.Client
) -> None:
    assert full.get("/v1/status").json()["tenants"] == sorted([stored.acme, stored.other])
    found = confined.get("/v1/status")
    assert found.json()["tenants"] == [stored.acme]
    assert stored.other not in found.text


def test_health_needs_no_token_and_names_nothing(stored: Stored, tmp_path: Path) -> None:
    with in_process(stored.settings) as client:
        assert client.get("/v1/health").json() == {"status": "ok", "reasons": []}
    gone = {"redis_url": f"unix://{tmp_path}/none.sock", "git_store_path": tmp_path / "none"}
    with in_process(stored.settings.model_copy(update=gone)) as client:
        assert client.get("/v1/health?probe=live").status_code == 200
        assert client.get("/v1/health").status_code == 503


def test_a_server_that_is_away_gives_503_in_time(stored: Stored, tmp_path: Path) -> None:
    """Also one that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(50)
        for name in ("none.sock", "silent.sock"):
            there = {"redis_url": f"unix://{tmp_path}/{name}"}
            with in_process(stored.settings.model_copy(update=there), "ck_any") as client:
                began = time.monotonic()
                answer = client.get("/v1/tenants", timeout=20)
                assert time.monotonic() - began < 5
                assert (answer.status_code, answer.json()["retryable"]) == (503, True)
                assert "retry-after" in answer.headers


def test_a_store_that_hangs_gives_503_in_time_and_holds_nobody(
    stored: Stored, full: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def hang(*_: object) -> None:
        goes_on.wait(30)

    monkeypatch.setattr("worker.http.context.PATIENCE_S", 0.5)
    with in_process(
        stored.settings, full.headers["authorization"].removeprefix("Bearer ")
    ) as client:
        with monkeypatch.context() as patch:
            patch.setattr("worker.reading.store_reader.StoreReader.tenant", hang)
            answer = client.get(f"/v1/tenants/{stored.acme}/devices", timeout=20)
        assert answer.status_code == 503
        assert client.get(f"/v1/tenants/{stored.acme}/devices").status_code == 200
        goes_on.set()


def test_rates_hold_over_all_processes(stored: Stored) -> None:
    few = stored.settings.model_copy(update={"http_requests": 5})
    text = new_token(stored.client, f"busy {uuid.uuid4()}")
    one, other = Door(stored.client, few), Door(stored.client, few)
    for _ in range(5):
        one.admit(text)
    with pytest.raises(TooManyRequests):
        one.admit(text)
    for each in (one, other):
        each.forget()
    with pytest.raises(TooManyRequests):
        other.admit(text)
    little = stored.settings.model_copy(update={"http_mib": 1})
    with pytest.raises(TooManyRequests):
        Door(stored.client, little).admit(text, cost_bytes=2 * 1024**2)


def test_a_revoked_or_expired_token_is_refused(stored: Stored) -> None:
    door = Door(stored.client, stored.settings)
    name = f"gone {uuid.uuid4()}"
    text = new_token(stored.client, name)
    assert door.admit(text).name == name
    tokens.revoke(stored.client, name)
    door.forget()
    with pytest.raises(AccessDenied):
        door.admit(text)
    short, _ = tokens.create(stored.client, name, [tokens.ALL], ["read"], lifetime_s=-1)
    with pytest.raises(AccessDenied):
        door.admit(short)


def test_what_redis_keeps_of_a_token_is_not_the_token(stored: Stored) -> None:
    text = new_token(stored.client, f"kept {uuid.uuid4()}")
    assert text not in str(stored.client.hgetall("confkeep:tokens"))


def test_who_takes_a_wrong_way_is_told_the_right_one(stored: Stored, full: httpx.Client) -> None:
    for answer in (full.get("/v1/nothing"), full.put("/v1/tenants")):
        assert answer.status_code in (404, 405)
        assert "/openapi.json" in answer.json()["hint"]
    address = f"/v1/tenants/{stored.acme}/devices/core1/backups"
    refused = full.post(address, content=b"export", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415
    assert refused.json()["detail"] == "send multipart/form-data or application/json"
