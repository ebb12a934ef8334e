"""`rediss://` and `sentinel://`: by configuration alone, against a real server."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks import enqueue_backup
from tests.integration.conftest import become_producer
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.errors import BrokerUnavailable
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

    def __init__(
        self, server: EmbeddedServer, certificate: Path, key: Path, *, clients: Path
    ) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        # Clients need a certificate too.
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(clients)
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


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and what it signed for a name or an address."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def found(cls, folder: Path, name: str) -> Authority:
        folder.mkdir(exist_ok=True)
        authority = cls(folder, name, ec.generate_private_key(ec.SECP256R1()))
        authority._write("ca", authority.key, x509.BasicConstraints(ca=True, path_length=None))
        return authority

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}-ca.pem"

    def sign(self, host: str) -> tuple[Path, Path]:
        """A certificate and its key; `host` is an address, or a name that is none."""
        try:
            san: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            san = x509.DNSName(host)
        names = x509.SubjectAlternativeName([san])
        return self._write(host, ec.generate_private_key(ec.SECP256R1()), names)

    def _write(
        self, host: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> tuple[Path, Path]:
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(_named(f"{self.name} {host}"))
            .issuer_name(_named(f"{self.name} ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self.key, hashes.SHA256())
        )
        certificate, secret = (self.folder / f"{self.name}-{host}.{end}" for end in ("pem", "key"))
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("strangers"), "strangers")


def url_of(front: TlsFront, authority: Authority, client: tuple[Path, Path] | None = None) -> str:
    url = f"rediss://127.0.0.1:{front.port}/0?ssl_ca_certs={authority.certificate}"
    if client is not None:
        url += f"&ssl_certfile={client[0]}&ssl_keyfile={client[1]}"
    return url


def test_tls_with_certificates_of_ones_own_on_both_sides(
    deployed: Deployment, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = TlsFront(deployed.server, *ours.sign("127.0.0.1"), clients=ours.certificate)
    deployed.variables["CONFKEEP_REDIS_URL"] = url_of(front, ours, ours.sign("worker"))
    become_producer(deployed, monkeypatch)
    try:
        keeps_a_backup(deployed)
    finally:
        for worker in deployed.workers:
            worker.stop()
        front.close()


@pytest.mark.parametrize("wrong", ["the server's authority", "the name", "no client", "the client"])
def test_tls_keeps_out_who_is_not_who_it_should_be(
    deployed: Deployment,
    ours: Authority,
    strangers: Authority,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    """By redis-py, which confkeep uses, and by Celery, which opens connections of its own."""
    trusted = strangers if wrong == "the server's authority" else ours
    host = "elsewhere.invalid" if wrong == "the name" else "127.0.0.1"
    client = {"the client": strangers.sign("worker"), "no client": None}.get(
        wrong, ours.sign("worker")
    )
    front = TlsFront(deployed.server, *ours.sign(host), clients=ours.certificate)
    deployed.variables["CONFKEEP_REDIS_URL"] = url_of(front, trusted, client)
    become_producer(deployed, monkeypatch)
    try:
        with pytest.raises(BrokerUnavailable):
            enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), "/ip", b"x", "m")
        if "client" not in wrong:
            # Whom they trust is up to each; that clients show a certificate, to the server.
            with app.connection_for_write() as broker, pytest.raises(broker.connection_errors):
                broker.channel().client.ping()
            with pytest.raises(redis.ConnectionError):
                app.backend.client.ping()
        with deployed.client() as owner:
            assert owner.keys("*") == []
    finally:
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
