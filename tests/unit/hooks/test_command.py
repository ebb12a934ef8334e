"""`confkeep hooks`, as a person uses it, on a real server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from confkeep.broker import keys
from confkeep.settings import get_settings, load_settings
from tests.planted import SECRET
from tests.receiving import Receiver, answer
from tests.unit.hooks.conftest import TENANT
from worker.cli import cli
from worker.hooks.hook_store import HookStore
from worker.hooks.progress import GONE, Delivery
from worker.process.local import EmbeddedServer

Confkeep = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def confkeep(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Confkeep]:
    """The command line, on an empty server and store."""
    for name in [n for n in os.environ if n.startswith(("CONFKEEP_", "GIT_STORE"))]:
        monkeypatch.delenv(name)
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("CONFKEEP_GIT_STORE_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("CONFKEEP_REDIS_URL", server.url)
    monkeypatch.setenv("CONFKEEP_HOOKS_NETWORKS", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    with server_client(server) as client:
        client.flushall()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["hooks", *arguments])

    yield run
    get_settings.cache_clear()


def server_client(server: EmbeddedServer):  # type: ignore[no-untyped-def]
    import redis

    return redis.Redis(unix_socket_path=str(server.socket))


def test_a_hook_is_added_listed_and_removed_and_its_secret_shown_once(confkeep: Confkeep) -> None:
    url = f"https://portal.example/hook?key={SECRET}"
    added = confkeep("add", url, "--tenant", TENANT, "--type", "backup.committed", "--changed-only")
    assert added.exit_code == 0, added.output
    name, secret = (line.split()[1] for line in added.stdout.splitlines())
    assert name == "portal.example"
    assert secret.startswith("whsec_")
    assert "start `confkeep hooks run`" in added.stderr
    again = json.loads(confkeep("add", url, "--json").stdout)
    assert again["name"] == "portal.example-2"
    for arguments in (["list"], ["list", "--json"], ["log", name], ["test", name]):
        shown = confkeep(*arguments).output
        assert secret not in shown
        assert SECRET not in shown
    first, _ = json.loads(confkeep("list", "--json").stdout)["hooks"]
    assert (first["url"], first["state"]) == ("https://portal.example/hook", "ok")
    assert (first["tenants"], first["types"]) == ([TENANT], ["backup.committed"])
    assert confkeep("remove", name).exit_code == 0
    assert [one["name"] for one in json.loads(confkeep("list", "--json").stdout)["hooks"]] == [
        again["name"]
    ]
    gone = confkeep("remove", name)
    assert gone.exit_code == 2
    assert "no hook has that name: portal.example-2" in gone.stderr


def test_what_is_wrong_with_a_hook_is_told_without_the_address(confkeep: Confkeep) -> None:
    wrong = confkeep("add", f"https://user:{SECRET}@portal.example/")
    assert wrong.exit_code == 2
    assert "url: must hold no user name" in wrong.stderr
    assert SECRET not in wrong.output
    assert confkeep("add", "https://portal.example/", "--type", "backup.lost").exit_code == 2
    assert confkeep("add", "https://portal.example/", "--name", "p").exit_code == 0
    taken = confkeep("add", "https://portal.example/", "--name", "p")
    assert "name of another hook" in taken.stderr


def test_a_test_says_what_the_receiver_answered(confkeep: Confkeep, receiver: Receiver) -> None:
    secret = json.loads(confkeep("add", receiver.url, "--name", "p", "--json").stdout)["secret"]
    done = confkeep("test", "p")
    assert done.exit_code == 0, done.output
    assert "p: it answered 204 in " in done.stdout
    [request] = receiver.requests
    assert request.verified(secret)["type"] == "hook.test"
    receiver.answers.append(lambda handler: answer(handler, 404))
    refused = confkeep("test", "p")
    assert refused.exit_code == 63
    assert "hook p: it answered 404" in refused.stderr


def test_a_hook_that_is_off_says_why_and_is_switched_on(
    confkeep: Confkeep, server: EmbeddedServer
) -> None:
    assert confkeep("add", "https://portal.example/", "--name", "p").exit_code == 0
    with server_client(server) as client:
        store = HookStore(client, load_settings())
        progress = store.get("p").progress
        assert progress is not None
        delivery = Delivery("p", 1_000, "e1", "backup.committed", 1, 410, "it answered 410", 12)
        store.note("p", progress.ended(GONE, 1_000), delivery)
        shown = confkeep("list")
        assert "off for " in shown.stdout
        assert f"p: {GONE}" in shown.stdout
        [one] = json.loads(confkeep("log", "p", "--json").stdout)["deliveries"]
        assert (one["status"], one["event_id"], one["number"]) == (410, "e1", 1)
        assert "it answered 410" in confkeep("log", "p").stdout
        assert confkeep("resume", "p").exit_code == 0
        assert store.get("p").progress == progress.on_again()
        assert client.exists(keys.HOOK_LOG)


def test_a_hook_of_the_file_is_listed_and_stays(
    confkeep: Confkeep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(
        '[[hook]]\nname = "filed"\nurl = "https://portal.example/"\nsecret = '
        f'"whsec_{"QUJD" * 8}"\n'
    )
    monkeypatch.setenv("CONFKEEP_HOOKS_FILE", str(path))
    get_settings.cache_clear()
    [one] = json.loads(confkeep("list", "--json").stdout)["hooks"]
    assert (one["name"], one["in_file"], one["state"]) == ("filed", True, "new")
    kept = confkeep("remove", "filed")
    assert kept.exit_code == 2
    assert "remove it there" in kept.stderr
    path.write_text("[[hook]")
    wrong = confkeep("list")
    assert wrong.exit_code == 2
    assert "CONFKEEP_HOOKS_FILE" in wrong.stderr


def test_an_extra_that_is_missing_is_named(
    confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpcore", None)
    monkeypatch.delitem(sys.modules, "worker.hooks.delivery", raising=False)
    done = confkeep("run")
    assert done.exit_code == 7
    assert "pip install 'confkeep[http]'" in done.stderr


def test_metrics_tell_of_hooks_that_fail_are_off_or_are_not_sent_to(
    confkeep: Confkeep, server: EmbeddedServer
) -> None:
    for name in ("works", "fails", "ended"):
        assert confkeep("add", f"https://{name}.example/", "--name", name).exit_code == 0
    with server_client(server) as client:
        store = HookStore(client, load_settings())
        progress = store.get("works").progress
        assert progress is not None
        now_ms = round(time.time() * 1000)
        store.note("fails", progress.failed("it answered 500", now_ms - 60_000))
        store.note("ended", progress.ended(GONE, now_ms))

        def figures() -> dict[str, float]:
            printed = CliRunner().invoke(cli, ["exporter", "--once"]).stdout
            rows = (line.rsplit(" ", 1) for line in printed.splitlines() if "_hook" in line[:15])
            return {name: float(value) for name, value in rows}

        found = figures()
        assert found['confkeep_hook_off{hook="ended"}'] == 1
        assert found['confkeep_hook_off{hook="fails"}'] == 0
        assert 60 <= found['confkeep_hook_failing_seconds{hook="fails"}'] < 120
        assert found['confkeep_hook_failing_seconds{hook="works"}'] == 0
        assert found["confkeep_hooks_unserved"] == 3
        client.set(keys.HOOKS_LEASE, "token", ex=10)
        assert figures()["confkeep_hooks_unserved"] == 0
