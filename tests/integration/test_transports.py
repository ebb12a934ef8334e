"""`rediss://` and `sentinel://`: by configuration alone, against a real server."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import threading
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable
from confkeep.settings import get_settings
from tasks import enqueue_backup
from tests.integration.conftest import become_producer
from tests.replicated import nodes, sentinels
from tests.servers import Deployment, free_port
from worker.app import app
from worker.process.local import EmbeddedServer

SCRIPT = Path(__file__).parents[2] / "docs/examples/private_ca.sh"


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
        # To close it alone would not wake who accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
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
    """A certificate authority of the test's own, made as docs/security.md says."""

    folder: Path

    @classmethod
    def found(cls, folder: Path, name: str) -> Authority:
        """One with its certificate; several may share a folder."""
        authority = cls(folder / name)
        authority.sign("nobody")
        return authority

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for a host's name, an address or a client, and its key."""
        command = [str(SCRIPT), str(self.folder), name]
        subprocess.run(command, check=True, capture_output=True)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


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


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients check certificates as those of Python 3.13 do."""
    usual = ssl.create_default_context

    def create() -> ssl.SSLContext:
        context = usual()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)


def ping_by_both(deployed: Deployment) -> None:
    """By redis-py, which confkeep uses, and by Celery, which opens connections of its own."""
    with open_client(get_settings()) as client:
        assert client.ping()
    with app.connection_for_write() as broker:
        assert broker.channel().client.ping()


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_python_3_13_takes_the_certificates_of_the_page(
    deployed: Deployment, ours: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    front = TlsFront(deployed.server, *ours.sign(name), clients=ours.certificate)
    url = url_of(front, ours, ours.sign("portal")).replace("127.0.0.1", name)
    deployed.variables["CONFKEEP_REDIS_URL"] = url
    become_producer(deployed, monkeypatch)
    try:
        ping_by_both(deployed)
    finally:
        front.close()


@pytest.mark.usefixtures("strict")
def test_python_3_13_refuses_an_authority_that_does_not_say_what_it_is_for(
    deployed: Deployment, ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page warns of. Were it taken, the page would send people on errands."""
    shown = SCRIPT.read_text("utf-8")
    loose = tmp_path / "loose.sh"
    loose.write_text(re.sub(r"(?m)^keyUsage = critical, keyCertSign.*\n|-x509_strict ", "", shown))
    loose.chmod(0o755)
    old = Authority(tmp_path / "old")
    subprocess.run([str(loose), str(old.folder), "127.0.0.1"], check=True, capture_output=True)
    server = (old.folder / "127.0.0.1.pem", old.folder / "127.0.0.1.key")
    front = TlsFront(deployed.server, *server, clients=ours.certificate)
    deployed.variables["CONFKEEP_REDIS_URL"] = url_of(front, old, ours.sign("portal"))
    become_producer(deployed, monkeypatch)
    try:
        with pytest.raises(redis.ConnectionError, match="CA cert does not include key usage"):
            ping_by_both(deployed)
    finally:
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


class InDatabase3(Deployment):
    def client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.server.socket), username="portal", password="p@ss/word", db=3
        )


def test_sentinels_name_the_master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of them, one of them dead, with a password for them and another one for the master."""
    with (
        nodes(tmp_path, 0, "user portal on >p@ss/word ~* &* +@all") as (master,),
        sentinels(tmp_path, master, 1, password="s;cret") as (sentinel,),
    ):
        url = (
            f"sentinel://portal:p%40ss%2Fword@127.0.0.1:{free_port()};sentinel://127.0.0.1:{sentinel}/3"
            "?master_name=keeper&sentinel_password=s%3Bcret"
        )
        deployed = InDatabase3(tmp_path, master.server, {"CONFKEEP_REDIS_URL": url})
        try:
            become_producer(deployed, monkeypatch)
            deployed.start_worker()
            result = enqueue_backup(str(uuid.uuid4()), str(uuid.uuid4()), "/ip", b"x", "m")
            assert result.get(timeout=30)["backup_id"] == result.id
            with master.client() as client:
                assert set(client.info("keyspace")) == {"db3"}
                here = {one["user"] for one in client.client_list() if one["db"] == "3"}
            assert here == {"portal"}
        finally:
            deployed.stop()
    assert os.listdir(tmp_path / "store")
