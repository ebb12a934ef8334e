"""A small store, and the command line run on it in this process."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result
from rich.console import Console

from confkeep.broker.connections import get_client
from confkeep.queue import wakeups
from confkeep.settings import get_settings, load_settings
from tests.judge import assert_all_readable
from worker.cli import cli, terminal
from worker.cli.terminal import Terminal
from worker.process.local import EmbeddedServer
from worker.store.repository.backup import Backup, Committed
from worker.store.repository.tenant_repository import create_repository, repository_path
from worker.store.writing.commit import Writer

Confkeep = Callable[..., Result]

TENANT = "aaaa1111-0000-4000-8000-000000000001"
OTHER_TENANT = "bbbb1111-0000-4000-8000-000000000002"
ROUTER = "beef0001-0000-4000-8000-000000000001"
SWITCH = "beef0002-0000-4000-8000-000000000002"
CAPTURED = dt.datetime(2026, 9, 30, 10, tzinfo=dt.UTC)


@dataclass
class Store:
    """A store that a test fills."""

    path: Path
    captured_at: dt.datetime = CAPTURED
    commits: list[Committed] = field(default_factory=list)

    def add(
        self,
        device_id: str,
        export: bytes,
        binary: bytes | None = None,
        message: str = "scheduled",
        tenant_id: str = TENANT,
    ) -> Committed:
        """Commit one backup, captured an hour after the last one."""
        self.captured_at += dt.timedelta(hours=1)
        backup = Backup(
            str(uuid.uuid4()), device_id, export, binary, message, captured_at=self.captured_at
        )
        repository = create_repository(repository_path(self.path, tenant_id))
        (committed,) = Writer(repository).commit_backups([backup])
        self.commits.append(committed)
        return committed

    def add_at(
        self,
        committed_at: dt.datetime,
        device_id: str,
        export: bytes = b"/ip\n",
        tenant_id: str = TENANT,
    ) -> None:
        """Commit one backup as if it were then."""
        backup = Backup(str(uuid.uuid4()), device_id, export, None, "m")
        repository = create_repository(repository_path(self.path, tenant_id))
        now_s = int(committed_at.timestamp())
        Writer(repository).commit_backups([backup], now_s=now_s)


def hours_ago(hours: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store that the settings name; all judges read what is in it at the end."""
    for name in [n for n in os.environ if n.startswith(("CONFKEEP_", "GIT_STORE"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "store"
    monkeypatch.setenv("CONFKEEP_GIT_STORE_PATH", str(path))
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield Store(path)
    get_settings.cache_clear()
    assert_all_readable(path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(store: Store, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    """An empty server, which the settings name. Nobody hears of wake-ups."""
    monkeypatch.setenv("CONFKEEP_REDIS_URL", server.url)
    monkeypatch.setattr(wakeups, "send", lambda *_, **__: None)
    client = get_client(load_settings())
    client.flushall()
    return client


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What `filled` is a copy of."""
    store = Store(tmp_path_factory.mktemp("filled") / "store")
    store.add(ROUTER, b"/ip address\nadd a\nadd b\n", b"\x88one", "first")
    store.add(SWITCH, b"/interface\n", None, "the switch")
    store.add(ROUTER, b"/ip address\nadd a\nadd c\nadd d\n", b"\x88two", "second")
    store.add(ROUTER, b"/ip address\nadd a\nadd c\nadd d\n", b"\x88two", "repeated")
    store.add(ROUTER, b"/ip address\nadd a\nadd c\n", b"\x88two+", "third")
    return store


@pytest.fixture
def filled(store: Store, filled_once: Store) -> Store:
    """Three versions of a router, one of a switch, and a backup that changed nothing."""
    shutil.copytree(filled_once.path, store.path, symlinks=True)
    store.captured_at, store.commits = filled_once.captured_at, list(filled_once.commits)
    return store


@pytest.fixture
def at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line print on a terminal of 80 columns."""
    monkeypatch.setattr(
        Terminal,
        "_console",
        lambda _self, stream: Console(
            file=stream, width=80, force_terminal=True, color_system=None, markup=False
        ),
    )


@pytest.fixture
def confkeep(store: Store, monkeypatch: pytest.MonkeyPatch) -> Confkeep:
    """Run the command line on `store`; on a slow machine too it tells of no progress meanwhile."""
    monkeypatch.setattr(terminal, "_PROGRESS_LINE_S", float("inf"))

    def run(*arguments: str | Path, typed: str | None = None) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=typed)

    return run
