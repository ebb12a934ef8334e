"""What our clients send: the server's protocol, whoever puts it together."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from worker.connections import open_client
from worker.settings import load_settings

#: Enough for a command that is large, thrice.
_LARGE = bytes(range(256)) * 2048


@pytest.mark.parametrize(
    "arguments",
    [
        ("SET", "key", b"value"),
        ("SET", "k\xe4y", _LARGE, "EX", 3600),
        ("EVALSHA", "0" * 40, 1, "key", _LARGE, b"", 2.5, _LARGE + b"\r\n", "last"),
        ("CONFIG GET", _LARGE),
    ],
    ids=["small", "large", "several", "two words"],
)
def test_large_arguments_are_sent_as_they_are_and_read_the_same(arguments: tuple[Any, ...]) -> None:
    client = open_client(load_settings(redis_url="unix:///nowhere"))
    sent = client.connection_pool.make_connection().pack_command(*arguments)  # type: ignore[no-untyped-call]
    texts = tuple(repr(arg) if isinstance(arg, int | float) else arg for arg in arguments[1:])
    assert b"".join(sent) == hiredis.pack_command((*arguments[0].encode().split(), *texts))
    for argument in arguments:
        if isinstance(argument, bytes) and len(argument) >= len(_LARGE):
            assert any(piece is argument for piece in sent), "it was copied"
