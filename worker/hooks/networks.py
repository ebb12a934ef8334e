"""Which addresses a webhook may be sent to, and connections to exactly those.

An address that a hook names may lead into our own network, where servers trust whoever comes from inside:
a cloud's metadata service, a database. So a name is resolved once, each of its addresses is judged, and one
that may be reached is connected to; nobody resolves the name a second time.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpcore

from confkeep.settings import networks_in

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Where a gateway translates to the IPv4 address in the last four bytes (NAT64, RFC 6052).
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")


class NotReachable(httpcore.ConnectError):
    """A name leads to no address that webhooks may be sent to. Its text is for people."""


class Networks:
    """The addresses that may be reached: all public ones, and those of the setting."""

    def __init__(self, allowed: str) -> None:
        self._allowed = tuple(ipaddress.ip_network(text) for text in networks_in(allowed))

    def allows(self, address: Address) -> bool:
        """Whether a webhook may be sent to an address, also one in the clothes of another."""
        return all(self._allows(one) for one in _forms_of(address))

    def _allows(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
            # What private networks had before `fc00::/7`, and Python takes for public.
            return False
        return address.is_global and not address.is_multicast and not address.is_reserved

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name that may be reached, in the order to try them.

        Raises:
            NotReachable: it has none.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NotReachable("its name has no address") from None
        addresses = dict.fromkeys(str(row[4][0]).partition("%")[0] for row in found)
        reachable = [text for text in addresses if self.allows(ipaddress.ip_address(text))]
        if not reachable:
            raise NotReachable("its address is private; CONFKEEP_HOOKS_NETWORKS allows networks")
        return reachable


def _forms_of(address: Address) -> Iterator[Address]:
    """The address that a packet goes to, and the IPv4 addresses that a tunnel would take from it."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _TRANSLATED:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo


class Bounds:
    """How long a request may go on, and how much may come back. One request at a time."""

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self.begin()

    def begin(self) -> None:
        self._deadline = time.monotonic() + self._seconds
        self._left_bytes = self._most_bytes

    def left_s(self, timeout_s: float | None) -> float:
        """Seconds that the next step may take.

        Raises:
            httpcore.ReadTimeout: none are left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("it took too long")
        return left if timeout_s is None else min(left, timeout_s)

    def took(self, size: int) -> None:
        """So many bytes came.

        Raises:
            httpcore.ReadError: these are too many.
        """
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise httpcore.ReadError("its answer is too long")


class BoundedBackend(httpcore.NetworkBackend):
    """Connects to allowed addresses only, and within the bounds of a request."""

    def __init__(self, networks: Networks, bounds: Bounds) -> None:
        self._networks = networks
        self._bounds = bounds
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first allowed address that answers."""
        problem: Exception = httpcore.ConnectError("nobody answers there")
        for address in self._networks.resolve(host, port):
            try:
                stream = self._real.connect_tcp(
                    address, port, self._bounds.left_s(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return _BoundedStream(stream, self._bounds)
        raise problem


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._bounds.left_s(timeout))
        self._bounds.took(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._bounds.left_s(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = self._bounds.left_s(timeout)
        return _BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname, left_s), self._bounds
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
