"""A server and a store with two tenants that the tests of HTTP share, and tokens for them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from confkeep.labels import Labels
from confkeep.settings import Settings, get_settings
from tests.http.serving import EVERYTHING, in_process, new_token, serve, standing
from tests.integration.conftest import become_producer, forget_environment
from tests.servers import Deployment, deployment
from worker.http.tokens import Right
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.writing.commit import open_for_writing

SECRET = b"hunter2-and-more"
EXPORT = (
    b"# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=core1\n"
    b"/ppp secret\nadd name=anna password=" + SECRET + b"\n"
)
LATER = EXPORT + b"/ip address\nadd address=10.0.0.1/24 interface=ether1\n"
BINARY = b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."


@contextmanager
def handing_over(
    running: Deployment, tenants: Collection[str], may: Collection[Right] = EVERYTHING
) -> Iterator[httpx.Client]:
    """A client of HTTP for a deployment, whose token has those rights; the server, in this process, hands over there."""
    with pytest.MonkeyPatch.context() as patch:
        become_producer(running, patch)
        with running.client() as client:
            token = new_token(client, f"portal {uuid.uuid4()}", tenants, may)
        with in_process(get_settings(), token) as portal:
            yield portal
    forget_environment()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with a worker."""
    with deployment(tmp_path_factory.mktemp("running")) as running:
        running.start_worker(pool="threads", concurrency=2)
        yield running


@contextmanager
def without_worker(settings: Settings) -> Iterator[str]:
    """The address of a server that hands over to the Redis of these settings, where no worker runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFKEEP_REDIS_URL", settings.redis_url)
        patch.setenv("CONFKEEP_GIT_STORE_PATH", str(settings.git_store_path))
        patch.setenv("CONFKEEP_INBOX_MAX_BACKUPS", str(10**6))
        forget_environment()
        with serve(settings) as address:
            yield address
    forget_environment()


@dataclass(frozen=True)
class Stored:
    """A store with the tenants `acme` (device core1 with two versions, edge1 with one) and `other` (secret1)."""

    settings: Settings
    client: redis.Redis
    acme: str
    other: str
    core1: str
    edge1: str
    secret1: str
    #: The commits of core1, oldest first.
    shas: list[str]


def _commit(path: Path, *backups: Backup) -> list[str]:
    create_repository(path)
    with open_for_writing(path) as writer:
        return [made.sha for made in writer.commit_backups([*backups])]


def _backup(
    device: str, export: bytes, name: str, group: str, binary: bytes | None = None
) -> Backup:
    return Backup(
        backup_id=str(uuid.uuid4()),
        device_id=device,
        export=export,
        binary=binary,
        message="poll",
        labels=Labels(name=name, group=group),
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    acme, other, core1, edge1, secret1 = (str(uuid.uuid4()) for _ in range(5))
    with standing(tmp_path_factory.mktemp("http")) as (settings, client):
        store = settings.git_store_path
        shas = _commit(
            repository_path(store, acme),
            _backup(core1, EXPORT, "core1", "core", BINARY),
            _backup(core1, LATER, "core1", "core", BINARY),
            _backup(edge1, EXPORT.replace(b"core1", b"edge1"), "edge1", "edge"),
        )
        _commit(repository_path(store, other), _backup(secret1, EXPORT, "secret1", "core"))
        yield Stored(settings, client, acme, other, core1, edge1, secret1, shas[:2])


@pytest.fixture(scope="module")
def full(stored: Stored) -> Iterator[httpx.Client]:
    """A client whose token may do everything for all tenants."""
    with in_process(stored.settings, new_token(stored.client, "full")) as client:
        yield client


@pytest.fixture(scope="module")
def confined(stored: Stored) -> Iterator[httpx.Client]:
    """A client whose token may read acme alone, and see no secrets."""
    token = new_token(stored.client, "confined", [stored.acme], ["read"])
    with in_process(stored.settings, token) as client:
        yield client
