"""Redis clients, one for each process and made after fork; it knows no key and sends no command."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from worker.errors import BrokerUnavailable
from worker.settings import Settings, get_settings

_lock = threading.Lock()
_clients: dict[tuple[int, str], redis.Redis] = {}


def open_client(settings: Settings, *, timeout_s: float | None = None) -> redis.Redis:
    """A new client. Its commands are sent once: a repetition could take effect twice.

    Args:
        timeout_s: seconds to wait for a connection and for each answer; None: the setting's.
    """
    timeout = settings.redis_timeout_s if timeout_s is None else timeout_s
    options = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # redis-py repeats a command up to ten times by default, and a slow server runs each.
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }
    url = settings.redis_url
    if url.startswith("sentinel://"):
        return _open_by_sentinel(url, options)
    client: redis.Redis = redis.Redis.from_url(url, **options)
    return client


def _open_by_sentinel(url: str, options: dict[str, object]) -> redis.Redis:
    """A client of the master that the sentinels name.

    The form is kombu's: `sentinel://[:password@]host:port[;sentinel://host:port...]/db`, with the
    service in the query as `master_name` (default `mymaster`).
    """
    from urllib.parse import parse_qs, urlsplit

    parts = [urlsplit(part) for part in url.split(";")]
    query = parse_qs(parts[-1].query)
    service = query.get("master_name", ["mymaster"])[0]
    db = int(parts[-1].path.strip("/") or 0)
    hosts = [(part.hostname or "localhost", part.port or 26379) for part in parts]
    sentinel = Sentinel(hosts, **options)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        service, db=db, password=parts[-1].password or parts[0].password, **options
    )
    return client


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
    """Turn redis-py's errors into `BrokerUnavailable`, without what they may quote."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise BrokerUnavailable(f"Redis did not answer ({type(error).__name__})") from error
    except redis.ResponseError as error:
        # The first word is the server's error code (OOM, READONLY, MISCONF ...); the rest may quote.
        code = str(error).split(" ", 1)[0][:40]
        raise BrokerUnavailable(f"Redis refused the command ({code})") from error
