"""Runs the application on uvicorn, with bounds on what clients may hold."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import Any, Final

from confkeep.errors import ExtraMissing, InvalidSettings
from confkeep.settings import Settings, variable_of

_LIBRARIES: Final = ("fastapi", "jinja2", "python_multipart", "uvicorn")
#: Connections, and requests, at a time; more are answered with 503.
_MOST_CONNECTIONS: Final = 300
#: Seconds for which an idle connection is kept.
_KEEP_ALIVE_S: Final = 15
#: Seconds for requests to end after SIGTERM.
GRACE_S: Final = 10
_MOST_HEAD_BYTES: Final = 32 * 1024


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidSettings: the address cannot be used, or the port is taken.
    """
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = socket.create_server((address, port), family=family, backlog=512)
    except OSError as error:
        raise InvalidSettings(
            variable_of("http_port"),
            # Python adds the address, which stands here already.
            f"cannot listen on port {port} of {address}: {str(error.strerror).partition(' (while')[0]}",
            hint=f"Choose a free port with --port or {variable_of('http_port')}, and an address of this "
            f"machine with {variable_of('http_address')}.",
        ) from error
    # Connections inherit it. asyncio sets it only where the socket names its protocol, which this one does
    # not; without it an answer's body waits 40 ms for the client to acknowledge the head.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def run(server: Any, opened: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that run then may end."""
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


def require_installed() -> None:
    """Check that the extra `http` is there.

    Raises:
        ExtraMissing: it is not.
    """
    if any(find_spec(name) is None for name in _LIBRARIES):
        raise ExtraMissing("serving HTTP", "http")
