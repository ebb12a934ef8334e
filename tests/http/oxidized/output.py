"""Plays Oxidized's `http` output: sends byte for byte what Ruby's Net::HTTP and JSON send for it."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Stored:
    """What Oxidized sees of an answer."""

    status: int
    body: str

    @property
    def complete(self) -> bool:
        """Whether Oxidized logs the backup as complete: `when 200 || 201` is 200 alone."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class HttpOutput:
    """`output.http` of Oxidized's configuration."""

    url: str
    user: str | None = None
    password: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def store(
        self,
        node: str,
        config: str | bytes,
        *,
        msg: str | None = None,
        user: str | None = None,
        email: str | None = None,
        group: str | None = None,
    ) -> Stored:
        """Post a configuration, as `Oxidized::Output::Http#store` does."""
        said = {"msg": msg, "user": user, "email": email, "group": group, "node": node}
        # `JSON.pretty_generate` of a flat object: two spaces, no escapes beyond what JSON needs.
        if isinstance(config, bytes):
            config = config.decode("utf-8", "surrogateescape")
        text = json.dumps({**said, "config": config}, indent=2, ensure_ascii=False)
        body = text.encode("utf-8", "surrogateescape")
        headers = {
            **dict(self.headers),
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
            "Accept": "*/*",
            "User-Agent": "Ruby",
        }
        if self.user and self.password:
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        headers |= {"Connection": "close", "Content-Length": str(len(body))}
        to = urlsplit(self.url)
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=30)
        try:
            connection.putrequest("POST", to.path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Stored(answer.status, answer.read().decode())
        except ConnectionError:
            return Stored(0, "")  # refused before all was sent
        finally:
            connection.close()
