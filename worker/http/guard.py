"""Stands around every request: bounds how long its body may take, logs and counts it, and hides what is unforeseen."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confkeep.observe.logs import get_logger
from worker.http.http_metrics import HttpMetrics
from worker.http.problems import problem_of_status
from worker.http.sending import answer_of

log = get_logger("http")

#: Seconds for a body, and bytes for each further one: who sends more slowly is cut off.
BODY_S: Final = 20.0
_BYTES_PER_S: Final = 128 * 1024
#: What is read of a body that nobody asked for, and the seconds for it: closing a connection over unread
#: bytes resets it, and the client may lose the answer.
_REST_BYTES: Final = 1024 * 1024
_REST_S: Final = 2.0
#: Most characters of a path in the log.
_MOST_PATH: Final = 200


class Guard:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            log.exception(
                "a request failed in a way that nobody foresaw",
                action="http.unforeseen",
                error=type(error).__name__,
            )
            if exchange.status:
                # uvicorn ends the connection, so that nobody takes the answer for whole.
                raise
            answer = answer_of(problem_of_status(500))
            await answer(scope, exchange.receive, exchange.send)
        finally:
            exchange.log()
            self._metrics.count(
                scope["method"],
                getattr(scope.get("route"), "path", "none"),
                exchange.status,
                exchange.took_s,
            )


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.perf_counter()
        self._got_bytes = self._sent_bytes = 0
        names = {name for name, _ in scope["headers"]}
        self._complete = names.isdisjoint((b"content-length", b"transfer-encoding"))
        #: A client that waits for "100 Continue" sends nothing unless somebody reads.
        self._may_read_rest = b"expect" not in names
        self.status = 0
        self.took_s = 0.0

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            HTTPException: the client sends too slowly.
        """
        if self._complete:
            return await self._receive()
        left_s = BODY_S + self._got_bytes / _BYTES_PER_S - (time.perf_counter() - self._began)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, left_s))
        except TimeoutError:
            self._may_read_rest = False
            raise HTTPException(
                408, f"the body must come within {BODY_S:g} s and 128 KiB a second"
            ) from None
        if message["type"] == "http.request":
            self._got_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        return message

    async def _read_rest(self) -> None:
        """Read what is left of a small body, so that a refusal reaches its client."""
        most = self._got_bytes + _REST_BYTES
        try:
            async with asyncio.timeout(_REST_S):
                while self._may_read_rest and not self._complete and self._got_bytes < most:
                    if (await self.receive())["type"] == "http.disconnect":
                        return
        except (TimeoutError, HTTPException):
            # Too slow: the refusal goes out all the same.
            return

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._read_rest()
            if not self._complete:
                # What is left of the body is not read, so it must not be taken for the next request.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        elif message["type"] == "http.response.body":
            self._sent_bytes += len(message.get("body", b""))
        await self._send(message)

    def log(self) -> None:
        """Write the line of the access log: no query, which may hold what is searched for, and no token."""
        self.took_s = time.perf_counter() - self._began
        state: dict[str, Any] = self._scope.get("state", {})
        client = self._scope.get("client")
        path: bytes = self._scope.get("raw_path") or b""
        log.info(
            "answered a request",
            action="http.request",
            method=self._scope["method"],
            path=path[:_MOST_PATH].decode("ascii", "replace"),
            status=self.status,
            ms=round(self.took_s * 1000, 1),
            bytes=self._sent_bytes,
            token_id=state.get("token_id"),
            person=state.get("person"),
            client=client[0] if client else None,
        )
