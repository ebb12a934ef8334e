"""A receiver of webhooks as a process of its own, which fails, hangs and lies at random.

Usage: python -m tests.chaos.receiver PORT RECORD SECRET SEED

It keeps a synced record of what came: one JSON object a line. What it answers with 2xx it has recorded
before. What it has recorded it may all the same answer with an error, with nonsense or not at all, and may
be killed at any moment. The signature of each request is checked by the library that receivers use.
"""

from __future__ import annotations

import json
import os
import random
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import standardwebhooks

#: Weights of what becomes of a request.
_WAYS = {
    "take": 900,
    "refuse": 25,
    "take and refuse": 25,
    "take and say nothing": 20,
    "take and hang": 5,
    "hang": 5,
    "take and babble": 20,
}
_HANG_S = 30.0


class Handler(BaseHTTPRequestHandler):
    """Takes, refuses, hangs or lies."""

    protocol_version = "HTTP/1.1"
    record: int
    webhook: standardwebhooks.Webhook
    random: random.Random
    lock = threading.Lock()
    #: Seconds for which it refuses all: an outage.
    refuses_until_s = 0.0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        way = self._way()
        self._note(body, taken=way.startswith("take"))
        match way:
            case "take":
                self._answer(204)
            case "refuse" | "take and refuse":
                self._answer(self.random.choice([400, 404, 429, 500, 502, 503, 302]))
            case "take and hang" | "hang":
                time.sleep(_HANG_S)
                self.close_connection = True
            case "take and babble":
                self.wfile.write(self.random.choice([b"\0" * 99, b"HTTP/1.1 20", b"SSH-2.0-x\r\n"]))
                self.close_connection = True
            case _:
                self.close_connection = True

    def _way(self) -> str:
        with self.lock:
            now = time.monotonic()
            if now < Handler.refuses_until_s:
                return "refuse"
            if self.random.random() < 0.002:
                Handler.refuses_until_s = now + self.random.uniform(0.5, 3)
            return self.random.choices(list(_WAYS), list(_WAYS.values()))[0]

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _note(self, body: bytes, *, taken: bool) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        noted: dict[str, Any] = {"id": headers.get("webhook-id"), "taken": taken}
        try:
            payload = self.webhook.verify(body, headers)
        except standardwebhooks.WebhookVerificationError as error:
            noted["forged"] = str(error)
        else:
            noted |= {name: payload[name] for name in ("type", "tenant_id")}
            noted |= {name: payload["data"].get(name) for name in ("backup_id", "sha")}
            noted["bytes"] = len(body)
        with self.lock:
            os.write(self.record, json.dumps(noted).encode() + b"\n")
            os.fsync(self.record)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


def main() -> None:
    port, record, secret, seed = sys.argv[1:5]
    Handler.record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    Handler.webhook = standardwebhooks.Webhook(secret)
    Handler.random = random.Random(seed)
    with _Server(("127.0.0.1", int(port)), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
