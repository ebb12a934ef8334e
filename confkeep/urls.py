"""Convert CONFKEEP_REDIS_URL into the forms that redis-py and Celery want.

    redis://[user:password@]host:port/db
    rediss://...?ssl_ca_certs=/path&ssl_cert_reqs=required      TLS; `required` is the default
    unix://[user:password@]/path?db=0
    sentinel://[user:password@]host:port;sentinel://host:port/db?master_name=mymaster

User and password are the master's; `sentinel_username=` and `sentinel_password=` in the query are the
sentinels' own. Percent-encode characters with a meaning in URLs, such as `@`, `/` and `;`.

Celery spells some of these differently: it calls a unix socket
`redis+socket`, wants `CERT_REQUIRED` for `required`, and takes the master's name as an option.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

#: The default server.
DEFAULT_REDIS_URL: Final = "redis://localhost:6379/0"

_DEFAULT_SENTINEL_PORT: Final = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """The sentinels of a master."""

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    db: int
    #: The master's.
    username: str | None
    password: str | None = field(repr=False)
    #: `username` and `password` of the sentinels; empty if they need none.
    credentials: dict[str, str] = field(default_factory=dict, repr=False)


def parse_sentinels(url: str) -> Sentinels | None:
    """The sentinels of a `sentinel://` URL; None for a URL of another kind.

    Raises:
        ValueError: it is malformed; the message may quote a password.
    """
    if not url.startswith("sentinel://"):
        return None
    parts = [urlsplit(part) for part in url.split(";")]
    if any(part.scheme != "sentinel" for part in parts):
        raise ValueError("each part must begin with sentinel://")
    query = parse_qs("&".join(part.query for part in parts))
    # Users write each of them in the first part, in the last or in all.
    db = next((path for part in parts if (path := part.path.strip("/"))), "0")
    return Sentinels(
        hosts=tuple(
            (part.hostname or "localhost", part.port or _DEFAULT_SENTINEL_PORT) for part in parts
        ),
        master_name=query.get("master_name", ["mymaster"])[0],
        db=int(db),
        username=next((unquote(part.username) for part in parts if part.username), None),
        password=next((unquote(part.password) for part in parts if part.password), None),
        credentials={
            name: query[f"sentinel_{name}"][0]
            for name in ("username", "password")
            if f"sentinel_{name}" in query
        },
    )


def shown(url: str) -> str:
    """The address that people may read: without users, passwords and the query."""
    parts = url.split(";") if url.startswith("sentinel://") else [url]
    addresses = []
    for part in parts:
        scheme, _, rest = part.partition("://")
        address, _, query = rest.partition("?")
        # A password may hold a bare `?`: what is before the last `@` is never shown.
        addresses.append(f"{scheme}://{'...' if '@' in query else address.rpartition('@')[2]}")
    return ";".join(addresses)


def for_celery(url: str) -> tuple[str, dict[str, Any]]:
    """The URL for Celery's broker and result backend, and the options that go with it."""
    sentinels = parse_sentinels(url)
    if sentinels is not None:
        user, password = (
            quote(one or "", safe="") for one in (sentinels.username, sentinels.password)
        )
        named = f"{user}:{password}@" if user or password else ""
        hosts = (
            f"sentinel://{named}{f'[{host}]' if ':' in host else host}:{port}/{sentinels.db}"
            for host, port in sentinels.hosts
        )
        options = {"master_name": sentinels.master_name, "sentinel_kwargs": sentinels.credentials}
        return ";".join(hosts), options
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
