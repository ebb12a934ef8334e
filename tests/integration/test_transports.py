"""`rediss://` and `sentinel://`: by configuration alone, against a real server."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from tasks import enqueue_backup
from tests.integration.conftest import become_producer
from tests.servers import Deployment, wait_for
from worker.local import Child, EmbeddedServer, find_server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keeps_a_backup(deployed: Deployment) -> None:
    deployed.start_worker()
    result = enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), "/ip", b"x", "m")
    assert result.get(timeout=30)["backup_id"] == result.id


class TlsFront:
    """Ends TLS in front of a server on a unix socket, as a load balancer does."""

    def __init__(self, server: EmbeddedServer, certificate: Path, key: Path) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with ExitStack() as opened:
            opened.enter_context(plain)
            try:
                front = opened.enter_context(self._context.wrap_socket(plain, server_side=True))
            except (ssl.SSLError, OSError):
                return
            back = opened.enter_context(socket.socket(socket.AF_UNIX))
            back.connect(str(self._server.socket))
            answers = threading.Thread(target=_copy, args=(back, front), daemon=True)
            answers.start()
            _copy(front, back)
            answers.join(timeout=5)

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        assert "CI" not in os.environ, "openssl is missing, and this test must run in CI"
        pytest.skip("openssl is missing: TLS is NOT tested")
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_tls_with_a_certificate_of_ones_own(
    deployed: Deployment, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = TlsFront(deployed.server, *certificate)
    url = f"rediss://127.0.0.1:{front.port}/0"
    deployed.variables["CONFKEEP_REDIS_URL"] = f"{url}?ssl_ca_certs={certificate[0]}"
    become_producer(deployed, monkeypatch)
    try:
        keeps_a_backup(deployed)
        # Without the certificate nobody is trusted.
        with redis.Redis.from_url(url) as stranger, pytest.raises(redis.ConnectionError):
            stranger.ping()
    finally:
        for worker in deployed.workers:
            worker.stop()
        front.close()


@contextmanager
def sentinel_of(path: Path, port: int) -> Iterator[int]:
    """A sentinel that watches the master on a loopback port."""
    own = free_port()
    configuration = path / "sentinel.conf"
    configuration.write_text(
        f"port {own}\nbind 127.0.0.1\nsentinel monitor keeper 127.0.0.1 {port} 1\n"
    )
    child = Child([find_server(), str(configuration), "--sentinel"], log=path / "sentinel.log")
    try:
        with redis.Redis(port=own) as client:

            def knows_its_master() -> bool:
                try:
                    return bool(client.execute_command("SENTINEL", "CKQUORUM", "keeper"))
                except redis.RedisError:
                    return False

            wait_for(knows_its_master, "the sentinel")
        yield own
    finally:
        child.stop()


def test_sentinel_names_the_master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    server = EmbeddedServer(tmp_path / "server")
    server.start("--port", str(port), "--bind", "127.0.0.1")
    deployed = Deployment(tmp_path, server)
    try:
        with sentinel_of(tmp_path, port) as sentinel:
            deployed.variables["CONFKEEP_REDIS_URL"] = (
                f"sentinel://127.0.0.1:{sentinel}/0?master_name=keeper"
            )
            become_producer(deployed, monkeypatch)
            keeps_a_backup(deployed)
            for worker in deployed.workers:
                worker.stop()
    finally:
        deployed.stop()
    assert os.listdir(tmp_path / "store")
