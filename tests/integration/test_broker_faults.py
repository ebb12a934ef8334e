"""A server that cannot be used is told by the name of what is wrong, with the next step and no secret."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery.exceptions import OperationalError
from click.testing import CliRunner

from confkeep.broker.broker_faults import explain
from confkeep.broker.connections import broker_errors, open_client
from confkeep.errors import BrokerUnavailable, NotPermitted
from confkeep.settings import load_settings
from tests.integration.test_transports import Authority, TlsFront
from worker.cli import cli
from worker.process.local import EmbeddedServer

SECRET = "hunter2-hunter2"


def fault_at(url: str) -> BrokerUnavailable:
    with (
        open_client(load_settings(redis_url=url, redis_timeout_s=3)) as client,
        pytest.raises(BrokerUnavailable) as raised,
        broker_errors(),
    ):
        client.ping()
    assert SECRET not in str(raised.value)
    assert raised.value.hint
    return raised.value


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives everybody one answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.recv(10_000)
                    client.sendall(answer)
                    client.recv(10_000)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_each_fault_of_tls_is_told_by_its_name(tmp_path: Path) -> None:
    ours, theirs = (Authority.found(tmp_path / name, name) for name in ("ours", "theirs"))
    with EmbeddedServer(tmp_path / "server") as server:
        right = TlsFront(server, *ours.sign("127.0.0.1"), clients=ours.certificate)
        misnamed = TlsFront(server, *ours.sign("elsewhere.example"), clients=ours.certificate)
        certificate, key = theirs.sign("client")
        mine, my_key = ours.sign("client")
        known = f"ssl_ca_certs={ours.certificate}"
        own = f"&ssl_certfile={mine}&ssl_keyfile={my_key}"
        at = f"rediss://user:{SECRET}@127.0.0.1"
        with answering(b"-ERR no TLS here\r\n") as plain:
            cases: list[tuple[str, str]] = [
                (f"{at}:{right.port}/0", "no CA that is known here"),
                (f"{at}:{misnamed.port}/0?{known}{own}", "is for another name"),
                (f"{at.replace('127.0.0.1', plain)}/0?{known}{own}", "does not speak TLS"),
                (f"{at}:{right.port}/0?{known}", "refuses this client"),
                (
                    f"{at}:{right.port}/0?{known}&ssl_certfile={certificate}&ssl_keyfile={key}",
                    "refuses this client",
                ),
                (f"{at}:{right.port}/0?ssl_ca_certs=/nowhere/ca.pem", "No such file"),
            ]
            for url, said in cases:
                assert said in str(fault_at(url)), url
        for front in (right, misnamed):
            front.close()


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            b"-DENIED Redis is running in protected mode because\r\n",
            BrokerUnavailable,
            "protected mode",
        ),
        (b"-ERR max number of clients reached\r\n", BrokerUnavailable, "raise maxclients"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", BrokerUnavailable, "(LOADING)"),
        (b"-CLUSTERDOWN The cluster is down\r\n", BrokerUnavailable, "(CLUSTERDOWN)"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", BrokerUnavailable, "(MASTERDOWN)"),
        (b"-BUSY Redis is busy running a script\r\n", BrokerUnavailable, "(BUSY)"),
        (b"-WRONGPASS invalid username-password pair\r\n", NotPermitted, "(WRONGPASS)"),
        (b"-NOAUTH Authentication required.\r\n", NotPermitted, "(NOAUTH)"),
        (b"-NOPERM User x has no permissions\r\n", NotPermitted, "(NOPERM)"),
        (b"-ERR ACL failure in script: User x has no\r\n", NotPermitted, "(NOPERM)"),
        (b"\x15\x03\x03\x00\x02\x02\x28", BrokerUnavailable, "rediss://"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", BrokerUnavailable, "rediss://"),
    ],
)
def test_each_refusal_is_told_by_its_name(
    answer: bytes, kind: type[BrokerUnavailable], said: str
) -> None:
    with answering(answer) as address:
        found = fault_at(f"redis://{address}/0")
    assert said in str(found)
    assert type(found) is kind


def test_what_kombu_makes_of_an_error_is_told_as_its_cause() -> None:
    try:
        try:
            raise redis.exceptions.ReadOnlyError("You can't write", status_code="READONLY")
        except redis.RedisError as error:
            raise OperationalError(f"{SECRET}") from error
    except OperationalError as error:
        found = explain(error)
    assert "(READONLY)" in str(found)
    assert SECRET not in str(found)


def test_commands_tell_it_in_two_lines(monkeypatch: pytest.MonkeyPatch, deployed: object) -> None:
    with answering(b"-DENIED Redis is running in protected mode because\r\n") as address:
        monkeypatch.setenv("CONFKEEP_REDIS_URL", f"redis://user:{SECRET}@{address}/0")
        from confkeep.settings import get_settings

        get_settings.cache_clear()
        done = CliRunner().invoke(cli, ["status"])
    assert done.exit_code == BrokerUnavailable.exit_code
    assert "protected mode" in done.output
    assert SECRET not in done.output
