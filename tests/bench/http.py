"""HTTP: 20 callers at once ask a tenant of 10,000 devices and 100,000 commits, against the bar of 50 ms."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import redis

from confkeep.labels import Labels
from tests.bench.fleet import folder
from tests.bench.table import Row, at_most
from tests.histories import START_S, device_ids
from tests.http.serving import new_token
from tests.servers import free_port, is_served, wait_for
from worker.http.tokens import RIGHTS
from worker.process.local import Child, EmbeddedServer
from worker.store.repository.backup import Backup
from worker.store.writing.commit import open_for_writing

DEVICES, COMMITS = 10_000, 100_000
#: Lines of an export.
LINES = 100
#: Commits of a batch.
_AT_ONCE: Final = 500
CALLERS = 20
#: Requests of each caller, of which the first ones only warm up.
REQUESTS, WARM = 60, 10
BAR_S: Final = 0.05
MEMORY_BAR: Final = 200 * 1024**2
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def rows() -> Iterator[Row]:
    """The rows about HTTP."""
    with folder() as place:
        tenant, devices = write_tenant(place / "store")
        with EmbeddedServer(place / "server") as server:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                token = new_token(client, "bench", may=RIGHTS)
                masked = new_token(client, "masked", may=["read"])
            port = free_port()
            process = start(place, server, port)
            try:
                yield from measure(process, port, token, masked, tenant, devices)
            finally:
                process.stop()


def write_tenant(store: Path) -> tuple[str, list[str]]:
    """Every device in turn, each time changed, as workers write it."""
    rng = random.Random(1)
    devices = device_ids(DEVICES)
    lines = [
        b"add address=10.%d.%d.1/24 interface=ether%d\n" % (n % 256, n // 256, n % 9)
        for n in range(4_096)
    ]

    def backup(number: int) -> Backup:
        at = rng.randrange(len(lines) - LINES)
        name = f"r{number % DEVICES}"
        head = f"# by RouterOS 7.16\n/system identity\nset name={name}\n/ip address\n".encode()
        export = head + b"".join(lines[at : at + LINES])
        backup_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        return Backup(
            backup_id, devices[number % DEVICES], export, None, "poll", labels=Labels(name=name)
        )

    tenant = str(uuid.UUID(int=7))
    with open_for_writing(store / f"{tenant}.git") as writer:
        for first in range(0, COMMITS, _AT_ONCE):
            numbers = range(first, first + _AT_ONCE)
            writer.commit_backups([backup(n) for n in numbers], now_s=START_S + first)
    return tenant, devices


def start(place: Path, server: EmbeddedServer, port: int) -> Child:
    """The process, as deployments start it; returns when it answers."""
    environment = {
        **os.environ,
        "CONFKEEP_REDIS_URL": server.url,
        "CONFKEEP_GIT_STORE_PATH": str(place / "store"),
        "CONFKEEP_HTTP_REQUESTS": "1000000000",
        "CONFKEEP_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "confkeep", "http", "--port", str(port)]
    process = Child(command, log=place / "http.log", env=environment)
    wait_for(lambda: is_served(port), "HTTP to answer")
    return process


def measure(
    process: Child, port: int, token: str, masked: str, tenant: str, devices: list[str]
) -> Iterator[Row]:
    """Ask for each kind of answer, and then look at the process's memory."""
    rng = random.Random(1)
    here = f"/v1/tenants/{tenant}/devices"
    kinds: tuple[tuple[str, str, Callable[[], str]], ...] = (
        ("a directory page of 100 devices", token, lambda: f"{here}?limit=100"),
        ("a device's history", token, lambda: f"{here}/{rng.choice(devices)}/versions"),
        ("an export", token, lambda: f"{here}/{rng.choice(devices)}/versions/latest/export"),
        ("a masked export", masked, lambda: f"{here}/{rng.choice(devices)}/versions/latest/export"),
    )
    for what, who, path in kinds:
        began = time.perf_counter()
        took = asyncio.run(ask_all(port, who, path))
        rate = CALLERS * (REQUESTS + WARM) / (time.perf_counter() - began)
        p50, p95 = (sorted(took)[int(len(took) * part)] for part in (0.5, 0.95))
        figures = f"p50 {p50 * 1000:.1f} and p95 {p95 * 1000:.1f} ms, {rate:.0f}/s"
        name = f"HTTP, {what}, {CALLERS} callers at once, p95, part of 50 ms"
        yield at_most(name, p95 / BAR_S, detail=figures)
    used = psutil.Process(process.process.pid).memory_info().rss
    figures = f"{used / 1024**2:.0f} MiB"
    yield at_most("HTTP, memory after that, part of 200 MiB", used / MEMORY_BAR, detail=figures)


async def ask_all(port: int, token: str, path: Callable[[], str]) -> list[float]:
    """The seconds of all requests but the first ones."""
    found = await asyncio.gather(*(ask(port, token, path) for _ in range(CALLERS)))
    return [took for each in found for took in each[WARM:]]


async def ask(port: int, token: str, path: Callable[[], str]) -> list[float]:
    """One caller on one connection, which asks again as soon as it is answered."""
    reading, writing = await asyncio.open_connection("127.0.0.1", port)
    found = []
    for _ in range(REQUESTS + WARM):
        head = f"GET {path()} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
        began = time.perf_counter()
        writing.write(head.encode())
        answer = await reading.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert length is not None
        await reading.readexactly(int(length[1]))
        found.append(time.perf_counter() - began)
    writing.close()
    return found
