"""Redis clients: one for each process, made after fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import hiredis
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


#: Bytes of a command from which on its large arguments are sent from where they are. A smaller command
#: is better sent in one piece, which the server reads at once.
_LARGE_COMMAND_BYTES: Final = 512 * 1024
_LARGE_BYTES: Final = 16 * 1024


class _Packer(HiredisRespSerializer):
    """Hands hiredis no numbers, and no large arguments, which it copies twice. A tuple is one argument in parts.

    For a number it calls `repr`, where Python runs pending signal handlers, and does not look
    whether that failed: a handler that raises, such as Ctrl-C's, made it crash the process
    (hiredis 3.5).
    """

    def pack(self, *args: Any) -> Any:
        """The command as the server reads it."""
        # A command may have two words: redis-py hands them over as one.
        texts = [*args[0].split(), *args[1:]]
        large: dict[int, tuple[bytes, ...]] = {}
        for at, text in enumerate(texts):
            if isinstance(text, str):
                continue
            if isinstance(text, (int, float)):
                texts[at] = repr(text)
            elif isinstance(text, tuple):
                large[at] = text
            elif len(text) >= _LARGE_BYTES:
                large[at] = (bytes(text),)
        if not large:
            return super().pack(*texts)
        pieces = _pieces(texts, large)
        if sum(map(len, pieces)) < _LARGE_COMMAND_BYTES:
            return [b"".join(pieces)]
        return pieces


def _pieces(texts: list[Any], large: Mapping[int, tuple[bytes, ...]]) -> list[bytes]:
    """A command in the server's protocol (RESP: arrays of bulk strings), large arguments uncopied."""
    pieces: list[bytes] = []
    begun, done = b"*%d\r\n" % len(texts), 0
    for at, parts in large.items():
        size = sum(map(len, parts))
        pieces += (begun + _bulks(texts[done:at]) + b"$%d\r\n" % size, *parts)
        begun, done = b"\r\n", at + 1
    return [*pieces, begun + _bulks(texts[done:])]


def _bulks(texts: list[Any]) -> bytes:
    """Arguments in the server's protocol, without the line in front that counts them."""
    packed: bytes = hiredis.pack_command(tuple(texts))
    return packed[packed.index(b"\n") + 1 :]


def open_client(settings: Settings, *, timeout_s: float | None = None) -> redis.Redis:
    """A new client. Its commands are sent once: a repetition could take effect twice.

    Args:
        timeout_s: seconds to wait for a connection and for each answer; None: the setting's.
    """
    timeout_s = settings.redis_timeout_s if timeout_s is None else timeout_s
    # redis-py repeats a command up to ten times by default, and a slow server runs each.
    retry = Retry(NoBackoff(), 0)
    client: redis.Redis = _open(
        redis.Redis, Sentinel, settings.redis_url, timeout_s, retry, command_packer=_Packer()
    )
    return client


def open_asyncio_client(settings: Settings) -> redis.asyncio.Redis:
    """A new client for the running event loop; as `open_client`."""
    retry, timeout_s = AsyncioRetry(NoBackoff(), 0), settings.redis_timeout_s
    client: redis.asyncio.Redis = _open(
        redis.asyncio.Redis, AsyncioSentinel, settings.redis_url, timeout_s, retry
    )
    return client


def _open(
    client: Any, sentinel: Any, url: str, timeout_s: float, retry: object, **of_server: object
) -> Any:
    """A client of one of redis-py's two halves.

    Args:
        of_server: further options, not for the connections to sentinels.
    """
    plain = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "decode_responses": False,
        "retry": retry,
    }
    sentinels = urls.parse_sentinels(url)
    if sentinels is None:
        return client.from_url(url, **plain, **of_server)
    watchers = sentinel(
        sentinels.hosts,
        sentinel_kwargs={**plain, **sentinels.credentials},
        **plain,
        **of_server,
    )
    return watchers.master_for(
        sentinels.master_name,
        db=sentinels.db,
        username=sentinels.username,
        password=sentinels.password,
        **plain,
        **of_server,
    )


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
