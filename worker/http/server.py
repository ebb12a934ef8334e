"""Runs the application on uvicorn, with bounds on what clients may hold."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from confkeep.settings import Settings

#: Connections, and requests, at a time; more are answered with 503.
_MOST_CONNECTIONS: Final = 300
#: Seconds for which an idle connection is kept.
_KEEP_ALIVE_S: Final = 15
#: Seconds for requests to end after SIGTERM.
GRACE_S: Final = 10
_MOST_HEAD_BYTES: Final = 32 * 1024


def run(server: Any, opened: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run then may end, unless Ctrl-C comes again."""
    # A page of thousands of lines makes objects faster than they go: with Python's own bounds, half of its
    # time is spent looking for garbage among the directories that are kept.
    gc.set_threshold(50_000, 20, 100)

    def end(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # Once it has ended, uvicorn raises the signal again: by default that would end the process with 143 or 130.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[opened])


def server_of(settings: Settings, ready: Callable[[], None] = lambda: None) -> Any:
    """A uvicorn server for the application of these settings, with all that a first page needs once.

    Args:
        ready: called once requests are answered.
    """
    import uvicorn

    from worker.http.app import create_app
    from worker.http.connections import BoundedConnection
    from worker.http.pages import rendering
    from worker.masking.mask import mask

    app = create_app(settings)
    rendering.prepare()
    # Of no known maker, so it takes the rules of all.
    mask(b"\n")

    class Server(uvicorn.Server):
        """Tells when it is ready, and lets nobody wait for events when it ends."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.context.ending = True
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.should_exit and sig == signal.SIGINT:
                # A person asks again: uvicorn would cancel what runs, and log each as an error.
                os._exit(0)
            super().handle_exit(sig, frame)

    return Server(
        uvicorn.Config(
            app,
            http=BoundedConnection,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        )
    )
