"""CONFKEEP_REDIS_URL in the forms that redis-py and Celery want; it opens nothing.

    redis://[user:password@]host:port/db
    rediss://...?ssl_ca_certs=/path&ssl_cert_reqs=required      TLS; `required` is the default
    unix://[user:password@]/path?db=0
    sentinel://[user:password@]host:port;sentinel://host:port/db?master_name=mymaster

redis-py and Celery each know their own spelling of some of these: Celery calls a unix socket
`redis+socket`, wants `CERT_REQUIRED` for `required`, and takes the master's name as an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

#: Where the server is when nothing says so.
DEFAULT_REDIS_URL: Final = "redis://localhost:6379/0"

_DEFAULT_SENTINEL_PORT: Final = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Who knows where the master is."""

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    db: int
    username: str | None
    password: str | None


def parse_sentinels(url: str) -> Sentinels | None:
    """The sentinels of a `sentinel://` URL; None for a URL of another kind."""
    if not url.startswith("sentinel://"):
        return None
    parts = [urlsplit(part) for part in url.split(";")]
    last = parts[-1]
    return Sentinels(
        hosts=tuple(
            (part.hostname or "localhost", part.port or _DEFAULT_SENTINEL_PORT) for part in parts
        ),
        master_name=parse_qs(last.query).get("master_name", ["mymaster"])[0],
        db=int(last.path.strip("/") or 0),
        username=parts[0].username or None,
        password=parts[0].password or None,
    )


def for_celery(url: str) -> tuple[str, dict[str, Any]]:
    """The URL for Celery's broker and result backend, and the options that go with it."""
    sentinels = parse_sentinels(url)
    if sentinels is not None:
        parts = [urlsplit(part) for part in url.split(";")]
        hosts = (f"sentinel://{part.netloc}/{sentinels.db}" for part in parts)
        return ";".join(hosts), {"master_name": sentinels.master_name}
    parts_ = urlsplit(url)
    if parts_.scheme == "unix":
        db = parse_qs(parts_.query).get("db", ["0"])[0]
        credentials = parts_.netloc.rpartition("@")[0]
        at = f"{credentials}@" if credentials else ""
        return f"redis+socket://{at}{parts_.path}?virtual_host={db}", {}
    if parts_.scheme == "rediss":
        return _tls_for_celery(parts_), {}
    return url, {}


def _tls_for_celery(parts: SplitResult) -> str:
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    asked = query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    query["ssl_cert_reqs"] = f"CERT_{asked.upper()}"
    return parts._replace(query=urlencode(query)).geturl()
