"""A connection that ends when its client says or takes nothing for too long: uvicorn waits for ever."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds for the head of a request, from the connection or from its first byte; and for taking some of an
#: answer.
HEAD_S: Final = 20.0
TAKE_S: Final = 20.0
#: Seconds between two looks at a connection.
LOOK_S: Final = 5.0
#: SO_LINGER's value for a reset.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1, with a bound on each wait for the client. Bodies have theirs in `guard`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._full_since: float | None = None
        self._looking = self.loop.call_later(LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note when the head of the next request began to come."""
        if self.timeout_keep_alive_task is not None:
            self._waits_since = self.loop.time()
        super().data_received(data)

    def pause_writing(self) -> None:
        self._full_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._full_since = None
        super().resume_writing()

    def _look(self) -> None:
        now = self.loop.time()
        cycle: object = self.cycle
        busy = cycle is not None and not self.cycle.response_complete
        waits_for_head = not busy and self.conn.their_state is h11.IDLE
        idle = self.timeout_keep_alive_task is not None
        if (waits_for_head and not idle and now - self._waits_since > HEAD_S) or (
            self._full_since is not None and now - self._full_since > TAKE_S
        ):
            self._end()
        else:
            self._looking = self.loop.call_later(LOOK_S, self._look)

    def _end(self) -> None:
        """End the connection, and let the kernel drop what it holds for the client."""
        opened: socket.socket | None = self.transport.get_extra_info("socket")
        if opened is not None:
            with suppress(OSError):
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()
