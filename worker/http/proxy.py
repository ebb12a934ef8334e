"""The header in which a trusted proxy names the person who signed in there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Self

from starlette.requests import HTTPConnection

from confkeep.errors import NotAllowed
from confkeep.settings import Settings, networks_in, variable_of
from worker.http.tokens import Person, is_name


@dataclass(frozen=True, slots=True)
class Proxy:
    """Which header is believed, and from where."""

    #: In lower case, as ASGI gives it; empty: none is believed.
    header: bytes
    networks: tuple[Any, ...]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The proxy of a deployment's settings."""
        return cls(
            settings.http_user_header.lower().encode(),
            tuple(map(ipaddress.ip_network, networks_in(settings.http_trusted_proxies))),
        )

    def person_of(self, request: HTTPConnection) -> Person | None:
        """The person that the proxy names; None if it names none, or if somebody else sent the request.

        Raises:
            NotAllowed: the header is there twice, or holds no name. A proxy that adds a header to the one that
                the browser sent lets everybody choose a name.
        """
        if not self.header or not self._is_trusted(request):
            return None
        values = [value for name, value in request.scope["headers"] if name == self.header]
        if not values:
            return None
        try:
            name = values[0].decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            name = "\0"
        if len(values) > 1 or "," in name or (name and not is_name(name)):
            raise NotAllowed(
                "the proxy does not name one person",
                hint=f"Let the proxy put one name into the header of {variable_of('http_user_header')}, and "
                "replace what the browser sends there.",
            )
        return Person(name) if name else None

    def _is_trusted(self, request: HTTPConnection) -> bool:
        """Whether the proxy itself is at the other end of the connection, whatever headers say of others."""
        if request.client is None:
            return False
        peer = ipaddress.ip_address(request.client.host)
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.networks)
