"""A receiver of webhooks in this process: it keeps what came, and answers as a test wants."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import standardwebhooks


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload, if its signature is good."""
        return standardwebhooks.Webhook(secret).verify(self.body, self.headers)


def ok(handler: BaseHTTPRequestHandler) -> None:
    """Take it."""
    answer(handler, 204)


def babble(handler: BaseHTTPRequestHandler) -> None:
    """Answer what is no HTTP."""
    handler.wfile.write(b"no http")
    handler.close_connection = True


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer with a status."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if status != 204:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@dataclass
class Receiver:
    """A running receiver."""

    port: int
    requests: list[Request] = field(default_factory=list)
    #: How to answer the next requests, one each; without one they are taken.
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    always: Callable[[BaseHTTPRequestHandler], None] = ok
    #: Set when the test ends, for answers that hang.
    ended: threading.Event = field(default_factory=threading.Event)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.requests]

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer nothing until the test ends."""
        self.ended.wait(60)
        handler.close_connection = True


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own, for as long as the block runs."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            receiver.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                receiver.requests.append(Request(self.path, headers, body))
                behave = receiver.answers.pop(0) if receiver.answers else receiver.always
            behave(self)

        def do_GET(self) -> None:
            receiver.requests.append(Request(self.path, {}, b""))
            answer(self, 200)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.ended.set()
            server.shutdown()
            thread.join()
