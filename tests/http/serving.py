"""HTTP for tests: an application in this process, and a real server on a free port of the loopback."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis

from confkeep import BackupPayload
from confkeep.enqueue import entry_of
from confkeep.queue import acceptance
from confkeep.queue.acceptance import Submission
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import RedisStaging
from confkeep.settings import Settings, load_settings
from tests.judge import judged
from worker.http import tokens
from worker.http.listening import listen
from worker.http.server import server_of
from worker.http.tokens import ALL, Right
from worker.process.local import EmbeddedServer

EVERYTHING: tuple[Right, ...] = tokens.RIGHTS


@contextmanager
def standing(folder: Path, **more: Any) -> Iterator[tuple[Settings, redis.Redis]]:
    """A server for Redis and a store, which git's judges read at the end: the settings for both, and a client."""
    with (
        EmbeddedServer(folder / "server") as server,
        judged(folder / "store") as store,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
    ):
        yield load_settings(redis_url=server.url, git_store_path=store, **more), client


def new_token(
    client: redis.Redis,
    name: str,
    tenants: Collection[str] = (ALL,),
    may: Collection[Right] = EVERYTHING,
) -> str:
    """The text of a new token."""
    return tokens.create(client, name, tenants, may)[0]


def accept(
    client: redis.Redis, settings: Settings, tenant: str, device: str, export: bytes, **more: str
) -> BackupPayload:
    """Hand a backup over; nobody commits it."""
    values: dict[str, Any] = {"message": "poll", **more}
    payload = BackupPayload.checked(
        tenant_id=tenant, device_id=device, export_text=export, **values
    )
    entry = entry_of(payload, "redis")
    data = RedisStaging(client).stage(tenant, entry, Contents(export, None))
    acceptance.accept(client, settings, [Submission(tenant, entry, data)])
    return payload


@contextmanager
def in_process(settings: Settings, token: str | None = None) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread of this process."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with serve(settings) as address, httpx.Client(base_url=address, headers=headers) as client:
        yield client


@contextmanager
def serve(settings: Settings) -> Iterator[str]:
    """A real server in a thread, on a free port of the loopback; yields its address."""
    with listen("127.0.0.1", 0) as listening:
        server = server_of(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()
