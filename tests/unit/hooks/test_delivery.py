"""One delivery: signed, bounded, to an allowed address, and judged by its status alone."""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from confkeep.queue.events import Event
from confkeep.settings import Settings, load_settings
from tests.receiving import Receiver, answer
from worker.hooks import delivery
from worker.hooks.delivery import Outcome
from worker.hooks.hook import Hook, new_secret
from worker.hooks.payload import MOST_BYTES, payload_of

SECRET = new_secret()
EVENT = Event(
    id="0b0e8a52-0000-4000-8000-000000000001",
    type="backup.committed",
    at=dt.datetime(2026, 10, 3, 12, tzinfo=dt.UTC),
    tenant_id="aaaa1111-0000-4000-8000-000000000001",
    device_id="beef0001-0000-4000-8000-000000000001",
    data={"sha": "f" * 40, "export_changed": True},
)


@pytest.fixture
def settings() -> Settings:
    return load_settings(hooks_networks="127.0.0.0/8", public_url="https://confkeep.example/")


def send(receiver: Receiver | str, settings: Settings, *events: Event) -> list[Outcome]:
    url = receiver if isinstance(receiver, str) else receiver.url
    hook = Hook.checked(name="portal", url=url, secret=SECRET)
    with delivery.Receiver(hook, settings) as sender:
        return [sender.send(event) for event in events or (EVENT,)]


def test_what_is_sent_is_signed_and_says_what_happened(
    receiver: Receiver, settings: Settings
) -> None:
    [outcome] = send(receiver, settings)
    assert outcome.delivered
    assert outcome.status == 204
    [request] = receiver.requests
    payload = request.verified(SECRET.get_secret_value())
    assert request.id == payload["id"] == EVENT.id
    assert payload["type"] == "backup.committed"
    assert payload["timestamp"] == payload["at"]
    assert payload["data"] == EVENT.data
    assert payload["link"] == (
        f"https://confkeep.example/v1/tenants/{EVENT.tenant_id}/devices/{EVENT.device_id}"
        f"/versions/{'f' * 40}"
    )
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_a_repeat_has_the_same_id_and_body(receiver: Receiver, settings: Settings) -> None:
    send(receiver, settings, EVENT, EVENT)
    first, second = receiver.requests
    assert (first.id, first.body) == (second.id, second.body)
    assert receiver.connections == 1, "a connection is kept"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
def test_only_2xx_is_a_success_and_no_redirect_is_followed(
    receiver: Receiver, settings: Settings, status: int
) -> None:
    receiver.answers.append(lambda handler: answer(handler, status, Location=receiver.url))
    [outcome] = send(receiver, settings)
    assert not outcome.delivered
    assert outcome.problem == f"it answered {status}"
    assert outcome.gone is (status == 410)
    assert len(receiver.requests) == 1


def test_a_receiver_may_say_when_to_come_again(receiver: Receiver, settings: Settings) -> None:
    receiver.answers += [
        lambda handler: answer(handler, 503, Retry_After="120"),
        lambda handler: answer(handler, 503, Retry_After="Fri, 27 Nov 2026 05:00:00 GMT"),
        lambda handler: answer(handler, 500, Retry_After="120"),
    ]
    found = send(receiver, settings, EVENT, EVENT, EVENT)
    assert [outcome.retry_after_s for outcome in found] == [120, 0, 0]


def test_a_receiver_that_hangs_costs_a_bounded_time(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DELIVERY_S", 0.2)
    receiver.always = receiver.hang
    [outcome] = send(receiver, settings)
    assert outcome.problem == "it did not answer in time"
    assert outcome.took_s < 2


def test_so_does_one_that_answers_byte_by_byte(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DELIVERY_S", 0.3)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        while not receiver.ended.wait(0.02):
            handler.wfile.write(b"H" if not receiver.ended.is_set() else b"")

    def slow_head(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            drip(handler)
        except OSError:
            return

    receiver.always = slow_head
    [outcome] = send(receiver, settings)
    assert outcome.problem == "it did not answer in time"
    assert outcome.took_s < 2


def test_an_endless_answer_is_read_up_to_a_bound(receiver: Receiver, settings: Settings) -> None:
    sent = []

    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 no\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while not receiver.ended.is_set():
                handler.wfile.write(b"x" * 65_536)
                sent.append(65_536)
        except OSError:
            return

    receiver.always = pour
    [outcome] = send(receiver, settings)
    assert outcome.problem == "it answered 500"
    # What the system holds for a reader is more than what is read of it.
    assert sum(sent) < 100_000_000


@pytest.mark.parametrize("answered", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2", b"\x00" * 100])
def test_what_is_no_http_is_a_failure(
    receiver: Receiver, settings: Settings, answered: bytes
) -> None:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answered)
        handler.close_connection = True

    receiver.always = behave
    [outcome] = send(receiver, settings)
    assert outcome.status == 0
    assert outcome.problem == "the connection broke, or what it answered is no HTTP"


def test_nobody_there(settings: Settings) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        [outcome] = send(f"http://127.0.0.1:{found.getsockname()[1]}/", settings)
    assert outcome.problem == "nobody answers there"


def test_a_certificate_that_nobody_vouches_for_is_refused(
    settings: Settings, tls_port: int
) -> None:
    [outcome] = send(f"https://127.0.0.1:{tls_port}/", settings)
    assert outcome.problem == "its certificate is not accepted"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254"])
def test_private_addresses_are_not_reached_unless_allowed(receiver: Receiver, host: str) -> None:
    [outcome] = send(f"http://{host}:{receiver.port}/", load_settings())
    assert outcome.problem == "its address is private; CONFKEEP_HOOKS_NETWORKS allows networks"
    assert receiver.requests == []
    assert receiver.connections == 0


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is judged and private when it is connected to reaches nobody."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        if host == "rebind.example":
            address = "198.51.100.7" if len(asked) == 1 else "127.0.0.1"
            return real(address, *arguments, **options)
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(delivery, "DELIVERY_S", 0.2)
    # A network that is for documentation, so that nobody is there.
    settings = load_settings(hooks_networks="198.51.100.0/24")
    [outcome] = send(f"http://rebind.example:{receiver.port}/", settings)
    assert not outcome.delivered
    assert asked.count("rebind.example") == 1
    assert receiver.connections == 0


def test_a_payload_repeats_no_secret_that_is_quoted_from_a_capture() -> None:
    line = 'failure: /ppp secret add name=anna password="hunter2"'
    event = EVENT.model_copy(update={"data": {"suspect": line, "warnings": [line], "reason": line}})
    body = payload_of(event)
    assert body.count("name=anna") == 3
    assert "hunter2" not in body


def test_a_payload_is_small_whatever_the_event_holds() -> None:
    data = {
        "warnings": ["w" * 3_000] * 100,
        "suspect": "\N{SNOWMAN}" * 50_000,
        "deep": {"x": {"y": ["z" * 9_000] * 200}},
        **{f"field{n}": "v" * 100 for n in range(500)},
    }
    body = payload_of(EVENT.model_copy(update={"data": data}))
    assert len(body.encode()) <= MOST_BYTES
    cut = json.loads(body)
    assert cut["cut"] is True
    assert cut["data"]["suspect"].startswith("\N{SNOWMAN}" * 60), "as much as fits is kept"
    assert "cut" not in json.loads(payload_of(EVENT))
    assert "link" not in json.loads(payload_of(EVENT))


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Where somebody answers TLS with a certificate of its own making."""
    import ssl
    import subprocess

    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                try:
                    context.wrap_socket(peer, server_side=True).close()
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)
