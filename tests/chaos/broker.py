"""What happens to the broker: torn files, orderly restarts, and windows in which it refuses to write."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import redis

from tests import append_only
from tests.chaos.aof import choose_cut
from tests.proxy import Proxy
from tests.servers import wait_for
from worker.process.local import EmbeddedServer

#: Seconds that are waited for a command that writes. Shorter than any client's patience, so that none
#: sends a second one.
_FOR_A_WRITE_S = 1.0


def kill_and_tear(
    server: EmbeddedServer, proxies: Sequence[Proxy], chance: random.Random, away_s: float
) -> str:
    """Kill the server and cut its append-only file within what nobody had an answer to.

    A power cut takes only bytes that the server has not synced, and it answers after it synced. So
    the length of the file is read while the server stands still, and no answer gets through once the
    file is longer: what comes behind that length may go. Each client has at most one call there, as
    in one turn of the server whose sync takes long. All find their connections ended, and know nothing.

    Args:
        proxies: all ways by which clients reach the server.

    Returns:
        What the cut struck.
    """
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "the server to stand still")
    path = append_only.newest(server.data)
    safe_bytes = path.stat().st_size

    def has_grown() -> bool:
        return not path.exists() or path.stat().st_size != safe_bytes

    for proxy in proxies:
        proxy.withhold(has_grown)
    # Meanwhile clients send what the server will find in one go.
    time.sleep(chance.uniform(0.05, 0.25))
    process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + _FOR_A_WRITE_S
    while not has_grown() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.1))
    server.kill()
    for proxy in proxies:
        proxy.release()
    struck = _tear(server, path, safe_bytes, chance)
    time.sleep(away_s)
    server.start()
    return struck


def _tear(server: EmbeddedServer, path: Path, safe_bytes: int, chance: random.Random) -> str:
    if append_only.newest(server.data) != path:
        return "nothing: the server began another file"
    with path.open("rb+") as file:
        file.seek(safe_bytes)
        cut = choose_cut(file.read(), chance)
        if cut is None:
            return "nothing: no command came"
        file.truncate(safe_bytes + cut.at)
    return cut.where


def restart(server: EmbeddedServer) -> None:
    """End the server in order and start it again: what a torn file left in it comes back now."""
    with redis.Redis(unix_socket_path=str(server.socket), socket_timeout=10) as client:
        end_refusals(client)
    os.kill(server.pid, signal.SIGTERM)
    wait_for(lambda: not server.running(), "the server to end in order")
    server.start()


def end_refusals(client: redis.Redis) -> None:
    """Let the server write again, whatever kept it from it."""
    # A replica that never reached its master keeps its data.
    client.replicaof("NO", "ONE")
    client.config_set("min-replicas-to-write", 0)
    client.config_set("maxmemory", 0)
    client.config_set("save", "")


def _become_replica(client: redis.Redis, data: Path) -> None:
    # Nobody listens there.
    client.replicaof("127.0.0.1", "1")


def _want_replicas(client: redis.Redis, data: Path) -> None:
    client.config_set("min-replicas-to-write", 1)


def _fill_memory(client: redis.Redis, data: Path) -> None:
    client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)


def _fail_to_save(client: redis.Redis, data: Path) -> None:
    # No file takes the place of a folder.
    (data / "dump.rdb" / "in the way").mkdir(parents=True, exist_ok=True)
    client.config_set("save", "3600 1000000000")
    # While it rewrites its append-only file it saves afterwards.
    client.bgsave(schedule=True)
    wait_for(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err",
        "the server to fail to save",
    )


#: The error that clients get, in lower case, and how to bring it about until `end_refusals`, with the
#: server's folder.
REFUSALS: dict[str, Callable[[redis.Redis, Path], None]] = {
    "readonly": _become_replica,
    "noreplicas": _want_replicas,
    "misconf": _fail_to_save,
    "oom": _fill_memory,
}
