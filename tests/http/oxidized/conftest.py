"""A store as Oxidized's clients see it: three nodes of one tenant, and a tenant that most may not see."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from confkeep.labels import Labels
from confkeep.settings import Settings
from tests.http.serving import in_process, new_token, standing
from worker.store.repository.backup import Backup, Naming
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.writing.commit import open_for_writing

FIRST = b'# v1\n/ip address\nadd address=10.0.0.9/24 comment="<x>"\n'
SECOND = b"# v1\n/ip address\nadd address=10.0.0.1/24\n"
GROUPLESS = b"/system identity\nset name=r2\n"
SECRET = b"/ppp secret\nadd name=home password=open-sesame\n"
#: Stands in each text of the tenant that the token of `acme` may not see.
FOREIGN = b"foreign-4711"
CAPTURED = dt.datetime(2026, 11, 25, 14, 27, 6, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Oxidized:
    """The store, and who is in it."""

    settings: Settings
    client: redis.Redis
    acme: str
    other: str
    #: Of `edge/r1.example.net`: its id and its commits, oldest first, all of the same second.
    r1: str
    shas: list[str]
    #: Tokens for acme alone: to read, to read secrets too, to hand over.
    reads: str
    reveals: str
    enqueues: str
    #: A token for all tenants.
    all: str


def backup(device: str, export: bytes, labels: Labels) -> Backup:
    return Backup(
        backup_id=str(uuid.uuid4()),
        device_id=device,
        export=export,
        binary=None,
        message=f"update {labels.group}/{labels.name}" if labels.group else f"update {labels.name}",
        captured_at=CAPTURED,
        labels=labels,
    )


def commit(store: Path, tenant: str, name: str, *backups: Backup) -> list[str]:
    path = repository_path(store, tenant)
    create_repository(path)
    naming = Naming(str(uuid.uuid4()), tenant, Labels(name=name), "labels")
    with open_for_writing(path) as writer:
        return [made.sha for made in writer.commit_backups([*backups, naming])]


@pytest.fixture(scope="module")
def oxidized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oxidized]:
    folder = tmp_path_factory.mktemp("oxidized")
    acme, other, r1, r2, r3, r4 = (str(uuid.uuid4()) for _ in range(6))
    with standing(folder, http_requests=10_000_000, http_mib=1_000_000) as (settings, client):
        store = settings.git_store_path
        edge = Labels("r1.example.net", "10.0.0.1", "RouterOS", "edge")
        shas = commit(
            store,
            acme,
            "acme",
            backup(r1, FIRST, edge),
            backup(r1, SECOND, edge),
            backup(r2, GROUPLESS, Labels("r2", "10.0.0.2", "RouterOS")),
            backup(r3, SECRET, Labels("r3", "10.0.0.3", "RouterOS", "site/north")),
        )
        commit(
            store,
            other,
            "other",
            backup(r4, FOREIGN + b"\n" + FIRST, Labels(FOREIGN.decode(), "10.0.0.4")),
        )
        yield Oxidized(
            *(settings, client, acme, other, r1, shas[:2]),
            new_token(client, "reads", [acme], ["read"]),
            new_token(client, "reveals", [acme], ["read", "reveal"]),
            new_token(client, "enqueues", [acme], ["read", "enqueue"]),
            new_token(client, "all"),
        )


@pytest.fixture(scope="module")
def http(oxidized: Oxidized) -> Iterator[httpx.Client]:
    """A client that sends the token as LibreNMS and NetXMS do: as the password of Basic."""
    with in_process(oxidized.settings) as client:
        client.auth = ("librenms", oxidized.enqueues)
        yield client
