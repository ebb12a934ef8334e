"""The pages' curl commands, as a person types them beside `confkeep up --http`."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from tests.acceptance import test_cli
from tests.acceptance.test_cli import (
    fresh_environment,
    processes_of,
    run,
    running_up,
    start,
)
from tests.servers import free_port, wait_for
from worker.cli.running import DEFAULT_DATA
from worker.http.tokens import list_tokens
from worker.process.local import EmbeddedServer

ROOT = Path(__file__).parents[2]
EXPORT = "# 2026-10-01 10:00:00 by RouterOS 7.16\n/system identity\nset name=core1\n"

folder = test_cli.folder


def block_of(page: str) -> str:
    """The commands of a page that make a token, hand over and read back."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if "confkeep token create poller" in block]
    return str(found)


@pytest.fixture
def port() -> int:
    return free_port()


def test_the_pages_commands_hand_over_and_read_back(folder: Path, port: int) -> None:
    (folder / "core1.rsc").write_text(EXPORT)
    (folder / "core1.backup").write_bytes(
        b"\x88\xac\xa1\xb1" + (16).to_bytes(4, "little") + b"backup.."
    )
    # It serves this machine alone, wherever `confkeep http` would listen.
    (folder / ".env").write_text("CONFKEEP_HTTP_ADDRESS=192.0.2.1\n")
    with running_up(folder, "--http", str(port)):
        for number, page in enumerate(("README.md", "docs/http.md")):
            environment = {
                **fresh_environment(),
                "TENANT": str(uuid.uuid4()),
                "DEVICE": str(uuid.uuid4()),
            }
            environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
            # Each token has a name of its own.
            commands = block_of(page).replace("8080", str(port))
            commands = commands.replace("create poller", f"create poller{number}")
            done = subprocess.run(
                ["sh", "-e", "-c", commands],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert '"state":"committed"' in done.stdout
            assert done.stdout.endswith(EXPORT)


def test_what_a_demo_of_real_exports_says_to_paste_works_while_it_serves(
    folder: Path, port: int
) -> None:
    # The user's own settings reach neither the demo nor its workers.
    (folder / ".env").write_text("CONFKEEP_SHARDS=many\nGIT_STORE_PATH=/nowhere\n")
    # What an import says to do about names that may be read in two ways, a demo takes as well.
    (folder / "either").mkdir()
    for name in ("r1_01022024", "r1_02012024", "r2_01022024", "r2_02012024"):
        (folder / "either" / f"{name}.rsc").write_text(f"/system identity\nset name={name}\n")
    assert "--order day-first" in run(folder, "demo", "--from", "either", status=2)

    order = ("--order", "day-first")
    demo = start(folder, "demo", "--from", "either", *order, "--http", str(port))
    ready = b"Ctrl-C ends it"
    wait_for(
        lambda: ready in (folder / "err").read_bytes() or demo.poll() is not None,
        "the demo's pages",
    )
    said = (folder / "out").read_text()
    assert said.startswith("4 backups of 2 devices of 1 tenant are in git")
    assert re.search(r"^\+set name=r[12]_01022024$", said, re.MULTILINE)
    commands = re.findall(r"^  (export .*|curl .*)$", said, re.MULTILINE)
    assert len(commands) == 4, said
    commands.append('ls -d "$CONFKEEP_GIT_STORE_PATH"/*.git')
    subprocess.run(
        ["sh", "-euc", "\n".join(commands).replace("curl ", "curl -fsS ")],
        cwd=folder, env=fresh_environment(), check=True, capture_output=True,
    )  # fmt: skip
    assert b"have ended" not in (folder / "err").read_bytes()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130


def test_a_killed_up_takes_its_parts_along_and_the_next_one_runs(folder: Path, port: int) -> None:
    """And the token of a session ends with it: the address of its page stands in a browser's history."""

    def page() -> str:
        found = re.compile(r"^pages: (\S+)$", re.MULTILINE)
        wait_for(lambda: found.search((folder / "out").read_text()), "the address of the pages")
        return str(found.findall((folder / "out").read_text())[0])

    with running_up(folder, "--http", str(port)) as up:
        old = page()
        assert httpx.get(old).status_code == 303
        up.kill()
        up.wait(30)
        # A pool's child that was only just forked waits 30 s for its parent to take its first message.
        wait_for(lambda: not processes_of(folder), "its parts to end", 60)
    # The file is stale: nobody answers there.
    assert (folder / DEFAULT_DATA / "up.json").exists()
    assert "using `confkeep up`" not in run(folder, "status", status=11)
    with running_up(folder, "--http", str(port)):
        run(folder, "status")
        assert [httpx.get(each).status_code for each in (old, page())] == [401, 303]
    with (
        EmbeddedServer(folder / DEFAULT_DATA / "redis") as server,
        redis.Redis(unix_socket_path=str(server.socket)) as client,
    ):
        assert list_tokens(client) == []


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_port_that_is_taken_ends_it_before_anything_starts(folder: Path, command: str) -> None:
    """Who listens there would be given a token that may do everything."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run(folder, command, "--http", str(port), status=2)
    assert f"--http: cannot listen on port {port} of 127.0.0.1: Address already in use" in said
    assert "token" not in said


@contextmanager
def serving_nothing(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """`confkeep http` without a server; its lines of the log are read up to where it answers."""
    command = [sys.executable, "-m", "confkeep", "http", "--port", str(port)]
    environment = {**fresh_environment(), "CONFKEEP_REDIS_URL": "unix:///nonexistent"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("http at" in line for line in process.stderr)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_it_ends_well_when_it_is_asked_to(folder: Path, port: int, number: signal.Signals) -> None:
    """As `confkeep http --help` says; a supervisor takes anything but 0 for a failure."""
    with serving_nothing(folder, port) as process:
        process.send_signal(number)
        assert process.stderr is not None
        assert "ended\n" in process.stderr.read()
        assert process.wait(30) == 0


def test_a_second_ctrl_c_ends_it_at_once_and_without_a_word(folder: Path, port: int) -> None:
    head = (
        "POST /sign-in HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    with (
        serving_nothing(folder, port) as process,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        client.sendall(head.encode())
        # From here on it waits for the body.
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("Waiting for connections to close" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait(30) == 0
