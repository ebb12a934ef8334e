"""Redis clients: one for each process, made after fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncioRetry
from redis.asyncio.sentinel import Sentinel as AsyncioSentinel
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry
from redis.sentinel import Sentinel

from confkeep import urls
from confkeep.broker.broker_faults import explain, strip_command
from confkeep.settings import Settings, get_settings

_lock = threading.Lock()
_clients: dict[tuple[int, str], redis.Redis] = {}


#: Bytes of a command from which on its large arguments are sent from where they are: to put it
#: together takes hiredis half as long as the server takes to do it. A smaller command is better sent
#: in one piece, which the server reads at once.
_LARGE_COMMAND_BYTES: Final = 512 * 1024
_LARGE_BYTES: Final = 16 * 1024


class _Packer(HiredisRespSerializer):
    """Hands hiredis no numbers, and no large commands. A tuple is one argument in parts.

    For a number it calls `repr`, where Python runs pending signal handlers, and does not look
    whether that failed: a handler that raises, such as Ctrl-C's, made it crash the process
    (hiredis 3.5).
    """

    def pack(self, *args: Any) -> Any:
        """The command as the server reads it."""
        texts: list[Any] = [repr(arg) if isinstance(arg, int | float) else arg for arg in args]
        if sum(map(_size, texts)) >= _LARGE_COMMAND_BYTES:
            # A command may have two words: redis-py hands them over as one.
            return _pieces([*str(texts[0]).split(), *texts[1:]])
        texts = [b"".join(arg) if isinstance(arg, tuple) else arg for arg in texts]
        return super().pack(*texts)


def _size(argument: Any) -> int:
    """The bytes of an argument that may be large."""
    if isinstance(argument, tuple):
        return sum(map(len, argument))
    return len(argument) if isinstance(argument, bytes) else 0


def _pieces(arguments: list[Any]) -> list[bytes]:
    """A command in the server's protocol (RESP: arrays of bulk strings), large arguments uncopied."""
    sent: list[bytes] = []
    small = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument.encode() if isinstance(argument, str) else argument
        parts = data if isinstance(data, tuple) else (bytes(data),)
        small.append(b"$%d\r\n" % sum(map(len, parts)))
        for part in parts:
            if len(part) < _LARGE_BYTES:
                small.append(part)
            else:
                sent += (b"".join(small), part)
                small = []
        small.append(b"\r\n")
    return [*sent, b"".join(small)]


def open_client(settings: Settings, *, timeout_s: float | None = None) -> redis.Redis:
    """A new client. Its commands are sent once: a repetition could take effect twice.

    Args:
        timeout_s: seconds to wait for a connection and for each answer; None: the setting's.
    """
    # redis-py repeats a command up to ten times by default, and a slow server runs each.
    plain = {**_plain(settings, timeout_s), "retry": Retry(NoBackoff(), 0)}
    options = {**plain, "command_packer": _Packer()}
    url = settings.redis_url
    sentinels = urls.parse_sentinels(url)
    if sentinels is not None:
        watchers = Sentinel(  # type: ignore[no-untyped-call]
            sentinels.hosts, sentinel_kwargs={**plain, **sentinels.credentials}, **options
        )
        master: redis.Redis = watchers.master_for(  # type: ignore[no-untyped-call]
            sentinels.master_name,
            db=sentinels.db,
            username=sentinels.username,
            password=sentinels.password,
            **options,
        )
        return master
    client: redis.Redis = redis.Redis.from_url(url, **options)
    return client


def open_asyncio_client(settings: Settings) -> redis.asyncio.Redis:
    """A new client for the running event loop; as `open_client`."""
    plain = {**_plain(settings, None), "retry": AsyncioRetry(NoBackoff(), 0)}
    sentinels = urls.parse_sentinels(settings.redis_url)
    if sentinels is None:
        return redis.asyncio.Redis.from_url(settings.redis_url, **plain)
    watchers = AsyncioSentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts, sentinel_kwargs={**plain, **sentinels.credentials}, **plain
    )
    master: redis.asyncio.Redis = watchers.master_for(
        sentinels.master_name,
        db=sentinels.db,
        username=sentinels.username,
        password=sentinels.password,
        **plain,
    )
    return master


def _plain(settings: Settings, timeout_s: float | None) -> dict[str, Any]:
    timeout = settings.redis_timeout_s if timeout_s is None else timeout_s
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "decode_responses": False,
    }


def get_client(settings: Settings | None = None) -> redis.Redis:
    """This process's client for `settings` (default: the environment's); thread-safe.

    A child made by fork gets a client of its own: two processes must never share a socket.
    """
    settings = settings or get_settings()
    key = (os.getpid(), settings.redis_url)
    with _lock:
        client = _clients.get(key)
        if client is None:
            client = _clients[key] = open_client(settings)
        return client


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn redis-py's errors into `BrokerUnavailable`, or `NotPermitted`, without what they may quote."""
    try:
        yield
    except (
        redis.ConnectionError,
        redis.TimeoutError,
        redis.exceptions.InvalidResponse,
        redis.ResponseError,
    ) as error:
        if isinstance(error, redis.ResponseError):
            strip_command(error)
        raise explain(error) from error
