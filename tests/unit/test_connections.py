"""What our clients send, the server's protocol whoever puts it together; and how its refusals are told."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from confkeep.broker.connections import broker_errors, open_client
from confkeep.errors import BrokerUnavailable, NotPermitted
from confkeep.settings import load_settings
from worker.process.local import EmbeddedServer

#: Enough for a command that is large, thrice.
_LARGE = bytes(range(256)) * 2048


@pytest.mark.parametrize(
    "arguments",
    [
        ("SET", "key", b"value"),
        ("SET", "key", (b"va", b"", b"lue")),
        ("SET", "k\xe4y", _LARGE, "EX", 3600),
        ("EVALSHA", "0" * 40, 1, "key", _LARGE, b"", 2.5, _LARGE + b"\r\n", "last"),
        ("CONFIG GET", _LARGE),
        ("EVALSHA", "0" * 40, 1, (b"export", _LARGE, b""), "last"),
        ("SET", "key", (_LARGE[:-1], _LARGE)),
    ],
    ids=["small", "small in parts", "large", "several", "two words", "in parts", "in large parts"],
)
def test_large_arguments_are_sent_as_they_are_and_read_the_same(arguments: tuple[Any, ...]) -> None:
    client = open_client(load_settings(redis_url="unix:///nowhere"))
    sent = client.connection_pool.make_connection().pack_command(*arguments)  # type: ignore[no-untyped-call]
    texts = [repr(arg) if isinstance(arg, int | float) else arg for arg in arguments[1:]]
    whole = [b"".join(arg) if isinstance(arg, tuple) else arg for arg in texts]
    assert b"".join(sent) == hiredis.pack_command((*arguments[0].encode().split(), *whole))
    for argument in arguments:
        for part in argument if isinstance(argument, tuple) else [argument]:
            if isinstance(part, bytes) and len(part) >= len(_LARGE) - 1:
                assert any(piece is part for piece in sent), "it was copied"


def test_a_refusal_names_its_code_and_repeats_no_payload(tmp_path: Path) -> None:
    secret = "password-of-a-router"
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:

        def refusal() -> BrokerUnavailable:
            with pytest.raises(BrokerUnavailable) as refused, broker_errors():
                client.pipeline().set("a", secret).execute()
            assert secret not in "".join(traceback.format_exception(refused.value))
            return refused.value

        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match=r"\(OOM\)"), broker_errors():
            client.set("a", secret)
        assert str(refusal()).startswith("Redis refused the command (OOM): its memory is full")
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 1)
        assert str(refusal()).startswith("Redis refused the command (NOREPLICAS): it has fewer")
        client.config_set("min-replicas-to-write", 0)
        client.acl_setuser("default", commands=["-set"])
        assert isinstance(refusal(), NotPermitted)
        client.acl_setuser("default", reset_passwords=True, passwords=["+right"])
        for password, named in ((None, "NOAUTH"), ("wrong", "WRONGPASS")):
            with (
                redis.Redis(
                    unix_socket_path=str(server.socket),
                    password=password,
                    # By default it tries for seconds whether the password is right now.
                    retry=Retry(NoBackoff(), 0),
                ) as stranger,
                pytest.raises(NotPermitted, match=named),
                broker_errors(),
            ):
                stranger.ping()
