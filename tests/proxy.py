"""A TCP proxy before a server's unix socket, whose connections a test can cut, stall and delay."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

_CHUNK_BYTES = 256 * 1024


class _Connection:
    """One client's connection and ours to the server."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.writers = writers
        #: Half-open: nobody is told that nothing gets through any more.
        self.stalled = asyncio.Event()


class Proxy:
    """Forwards `127.0.0.1:port` to a unix socket, in a thread of its own.

    The port stays the same while the server behind it comes and goes.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self._withhold: Callable[[], bool] = lambda: False
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The value of CONFKEEP_REDIS_URL that goes through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> int:
        """End all connections; new ones work. Returns their number."""
        return self._call(self._cut)

    def stall(self) -> int:
        """Let nothing through on the present connections, ever, and close none of them."""
        return self._call(self._stall)

    def withhold(self, when: Callable[[], bool] = lambda: True) -> None:
        """Swallow what the server says while `when` holds; what clients say still reaches it.

        Args:
            when: asked before each answer gets through, in the proxy's thread.
        """
        self._withhold = when

    def release(self) -> int:
        """End all connections, and withhold nothing from new ones. Returns the number of those ended."""
        return self._call(self._release)

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data for so long, from now on."""
        self._delay_s = seconds

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _call(self, function: Callable[[], int]) -> int:
        async def call() -> int:
            return function()

        number: int = self._run(call())
        return number

    def _cut(self) -> int:
        number = len(self._connections)
        for connection in self._connections:
            for writer in connection.writers:
                writer.transport.abort()
        return number

    def _stall(self) -> int:
        for connection in self._connections:
            connection.stalled.set()
        return len(self._connections)

    def _release(self) -> int:
        # What was read before and not looked at yet is an answer that must not get through.
        self._stall()
        self._withhold = lambda: False
        return self._cut()

    async def _end(self) -> None:
        self._server.close()
        self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            behind, to_server = await asyncio.open_unix_connection(str(self._socket))
            connection = _Connection((writer, to_server))
            self._connections.add(connection)
            try:
                ways = [
                    asyncio.ensure_future(self._forward(connection, reader, to_server)),
                    asyncio.ensure_future(self._forward(connection, behind, writer, answers=True)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                self._connections.discard(connection)
                to_server.transport.abort()
        except OSError:
            # The server is away: the client is told by the end of its connection.
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(
        self,
        connection: _Connection,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        *,
        answers: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if connection.stalled.is_set() or (answers and self._withhold()):
                    # Until a side gives up: what it sends is swallowed.
                    continue
                target.write(data)
                await target.drain()
