"""Servers that follow one another, and sentinels that watch them: each on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.servers import free_port, wait_for
from worker.process.local import Child, EmbeddedServer, find_server

SERVICE = "keeper"


@dataclass(frozen=True)
class Node:
    """A server with a port."""

    server: EmbeddedServer
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=10)

    def follow(self, master: Node | None) -> None:
        """Be a replica of another, or of nobody."""
        with self.client() as client:
            if master is None:
                client.replicaof("NO", "ONE")
                return
            client.replicaof("127.0.0.1", str(master.port))
            wait_for(lambda: follows(client), "the replica")
        # The master sends it what is new from its first answer on, which may take a second.
        with master.client() as client:
            wait_for(lambda: reaches_a_replica(client), "the replica's answer")


def follows(client: redis.Redis) -> bool:
    try:
        return client.info("replication").get("master_link_status") == "up"
    except redis.RedisError:
        return False


def reaches_a_replica(master: redis.Redis) -> bool:
    pipe = master.pipeline(transaction=False)
    pipe.publish("tests", b"")
    pipe.wait(1, 100)
    return bool(pipe.execute()[1])


@contextmanager
def nodes(path: Path, replicas: int, rules: str = "") -> Iterator[list[Node]]:
    """A master and its replicas, all in step.

    Args:
        rules: users beside `default`, as lines of a file of rules.
    """
    (path / "users.acl").write_text(f"user default on nopass ~* &* +@all\n{rules}\n")
    with ExitStack() as started:
        found: list[Node] = []
        for number in range(1 + replicas):
            node = Node(EmbeddedServer(path / f"node{number}"), free_port())
            # A replica's first copy comes at once, and without a file.
            options = ["--port", str(node.port), "--repl-diskless-sync-delay", "0"]
            options += ["--aclfile", str(path / "users.acl")]
            started.callback(node.server.stop)
            # A replica may take long to end in order.
            started.callback(node.server.kill)
            node.server.start(*options, "--bind", "127.0.0.1")
            found.append(node)
            if number:
                node.follow(found[0])
        yield found


@contextmanager
def sentinels(
    path: Path, master: Node, count: int, *, password: str | None = None, replicas: int = 0
) -> Iterator[list[int]]:
    """Sentinels that know the master and each other; their ports.

    Args:
        password: what they want of their own clients.
        replicas: how many they must have found.
    """
    ports = [free_port() for _ in range(count)]
    with ExitStack() as started:
        for port in ports:
            lines = [
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {path}",
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {count // 2 + 1}",
                f"sentinel down-after-milliseconds {SERVICE} 2000",
                f"sentinel failover-timeout {SERVICE} 20000",
            ]
            if password is not None:
                lines += [f"requirepass {password}", f"sentinel sentinel-pass {password}"]
            file = path / f"sentinel-{port}.conf"
            file.write_text("\n".join([*lines, ""]))
            child = Child([find_server(), str(file), "--sentinel"], log=path / "sentinel.log")
            started.callback(child.stop)

        def is_ready(port: int) -> bool:
            try:
                with redis.Redis(port=port, password=password, socket_timeout=5) as client:
                    found = client.sentinel_slaves(SERVICE)
                    client.execute_command("SENTINEL", "CKQUORUM", SERVICE)
            except redis.RedisError:
                return False
            return len(found) >= replicas

        for port in ports:
            wait_for(lambda port=port: is_ready(port), "the sentinels")  # type: ignore[misc]
        yield ports


def master_of(port: int) -> int:
    """The port of the server that a sentinel calls the master."""
    with redis.Redis(port=port, socket_timeout=5) as client:
        return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
