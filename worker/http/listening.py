"""Checks that HTTP can be served here, and takes its port."""

from __future__ import annotations

import errno
import socket
from importlib.util import find_spec
from typing import Final

from confkeep.errors import ExtraMissing, InvalidSettings
from confkeep.settings import variable_of

_LIBRARIES: Final = ("fastapi", "jinja2", "python_multipart", "uvicorn")


def require_installed() -> None:
    """Check that the extra `http` is there.

    Raises:
        ExtraMissing: it is not.
    """
    if any(find_spec(name) is None for name in _LIBRARIES):
        raise ExtraMissing("serving HTTP", "http")


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidSettings: the address cannot be used, or the port is taken.
    """
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = socket.create_server((address, port), family=family, backlog=512)
    except OSError as error:
        raise refused(address, port, error, "http_port", "http_address") from error
    # Connections inherit it. asyncio sets it only where the socket names its protocol, which this one does
    # not; without it an answer's body waits 40 ms for the client to acknowledge the head.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def refused(
    address: str, port: int, error: OSError, port_setting: str, address_setting: str
) -> InvalidSettings:
    """The error for a port that cannot be listened on, of the setting that is to be changed."""
    setting, step = port_setting, f"Choose a free port with --port or {variable_of(port_setting)}."
    if isinstance(error, PermissionError):
        step = f"Ports below 1024 are the system's: choose a higher one with --port or {variable_of(port_setting)}."
    elif error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0:
        # Below 0 are the resolver's: it knows no such name.
        setting = address_setting
        step = f"Name an address of this machine with --address or {variable_of(address_setting)}."
    # Python adds the address, which stands here already.
    said = str(error.strerror).partition(" (while")[0]
    return InvalidSettings(
        variable_of(setting), f"cannot listen on port {port} of {address}: {said}", hint=step
    )
