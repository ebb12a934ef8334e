"""A server that may lose what it acknowledged is refused, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from confkeep.errors import BrokerVolatile
from confkeep.settings import load_settings
from tests.servers import wait_for
from worker.process.broker_check import check
from worker.process.local import EmbeddedServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("volatile")) as running:
        yield running


@pytest.fixture
def volatile(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        yield client
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "always")
        # While it writes its first append-only file it does not end.
        wait_for(
            lambda: (
                not client.info("persistence")["aof_rewrite_in_progress"]
                and not client.info("persistence")["aof_rewrite_scheduled"]
            ),
            "the append-only file",
        )


def test_the_embedded_server_is_durable(volatile: redis.Redis) -> None:
    assert check(volatile, load_settings()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
        ("appendonly", "no"),
    ],
)
def test_a_volatile_server_is_refused_unless_allowed(
    volatile: redis.Redis, name: str, value: str
) -> None:
    volatile.config_set(name, value)
    with pytest.raises(BrokerVolatile, match=f"{name} is {value}"):
        check(volatile, load_settings())
    [problem] = check(volatile, load_settings(allow_volatile_broker=True))
    assert name in problem


def test_a_lazy_append_only_file_is_said(volatile: redis.Redis) -> None:
    volatile.config_set("appendfsync", "everysec")
    [problem] = check(volatile, load_settings())
    assert "everysec" in problem


def test_a_server_that_forbids_the_question_is_not_refused(
    volatile: redis.Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    volatile.acl_setuser(
        "guest", enabled=True, nopass=True, commands=["+@all", "-config", "-info"], keys="*"
    )
    with redis.Redis(unix_socket_path=str(server.socket), username="guest", password="x") as guest:
        [problem] = check(guest, load_settings())
    assert "does not tell" in problem


def test_a_user_without_config_is_told_what_info_tells(
    volatile: redis.Redis, server: EmbeddedServer
) -> None:
    volatile.acl_setuser(
        "worker", enabled=True, nopass=True, commands=["+@all", "-config"], keys="*"
    )
    with redis.Redis(unix_socket_path=str(server.socket), username="worker", password="x") as one:
        [problem] = check(one, load_settings())
        assert "check yourself that appendfsync is always" in problem
        volatile.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(BrokerVolatile, match="maxmemory-policy is allkeys-lru"):
            check(one, load_settings())
        volatile.config_set("maxmemory-policy", "noeviction")
        volatile.config_set("appendonly", "no")
        with pytest.raises(BrokerVolatile, match="appendonly is no"):
            check(one, load_settings())
