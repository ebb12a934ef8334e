"""The command line as a user runs it: real servers, real workers, nothing left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.judge import git
from tests.servers import wait_for
from worker.cli.samples import SampleDevice

TENANT = "aaaa1111-0000-4000-8000-000000000001"
DEVICE = "beef0001-0000-4000-8000-000000000001"


def fresh_environment() -> dict[str, str]:
    """Ours without any setting of confkeep, so that a test stands where a new user does."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CONFKEEP_", "GIT_STORE"))
    }


def run(folder: Path, *arguments: str, status: int = 0, stdin: bytes = b"") -> str:
    """What a command prints on standard output; it must end with `status`."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "confkeep", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env=fresh_environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == status, (arguments, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode() if status == 0 else done.stderr.decode()


def processes_of(folder: Path) -> list[psutil.Process]:
    """The processes that stand in `folder`, or were started for it."""
    found = []
    for process in psutil.process_iter():
        try:
            texts = [process.cwd(), *process.environ().values(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in texts):
            found.append(process)
    return found


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command that runs on; its output goes to `out` and `err` in the folder."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "confkeep", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=fresh_environment(),
        )


@contextmanager
def running_up(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`confkeep up` that is ready; ended by SIGTERM if the test did not end it."""
    process = start(folder, "up", "--concurrency", "1", *arguments)
    try:
        wait_for(
            lambda: (
                process.poll() is not None or (folder / "out").read_bytes().count(b"export ") == 2
            ),
            "confkeep up",
        )
        assert process.poll() is None, (folder / "err").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def folder(disk_path: Path) -> Iterator[Path]:
    """An empty folder to stand in. No process may be left in it at the end."""
    # Apart from what pytest's own processes have in their environment.
    path = disk_path / f"user-{uuid.uuid4()}"
    path.mkdir()
    yield path
    left = processes_of(path)
    for process in left:
        process.kill()
    assert left == []


def exports_of(folder: Path, devices: int, versions: int) -> None:
    """A folder of made-up exports: numbers for names, a binary beside every second."""
    for number in range(devices):
        sample = SampleDevice(f"import {number}")
        device = folder / "acme" / f"r{number}"
        device.mkdir(parents=True)
        for version in range(1, versions + 1):
            at = f"# 2026-01-{version:02d} 10:00:00 by RouterOS 7.16\n".encode()
            sample.mutate()
            body = f"/system identity set name=r{number}-{version}\n".encode()
            (device / f"{version}.rsc").write_bytes(at + body)
            if version % 2:
                (device / f"{version}.backup").write_bytes(sample.binary())


def test_up_is_found_by_the_other_commands_and_ends_without_a_trace(folder: Path) -> None:
    # A folder of the user's that is called like one of our packages is not taken for it.
    (folder / "worker").mkdir()
    (folder / "worker" / "__init__.py").write_text("raise RuntimeError")
    # A demo's folder that `up` goes on with is not a demo's any more.
    (folder / "confkeep-data").mkdir()
    (folder / "confkeep-data" / "made-by-confkeep-demo").touch()
    with running_up(folder, "--workers", "2") as up:
        status = json.loads(run(folder, "status", "--json"))
        assert len(status["workers"]) == 2
        assert all(w["shards"] == list(range(16)) for w in status["workers"])

        export = b"/ip address\nadd address=10.0.0.1/24\n"
        receipt = json.loads(
            run(
                folder,
                *("enqueue", TENANT, DEVICE, "--export", "-", "-m", "by hand", "--wait", "--json"),
                stdin=export,
            )
        )
        assert receipt["lines_added"] == 2
        assert "by hand" in run(folder, "history", TENANT[:6], DEVICE[:4])
        again = run(
            folder,
            *("enqueue", TENANT[:6], DEVICE[:4], "--export", "-", "-m", "again", "--wait"),
            stdin=export,
        )
        assert "unchanged" in again
        assert run(folder, "show", TENANT, DEVICE) == export.decode()

        # The variables that it prints are those that reach it from anywhere.
        printed = dict(
            re.findall(r"^export (\w+)='(.*)'$", (folder / "out").read_text(), re.MULTILINE)
        )
        elsewhere = subprocess.run(
            [sys.executable, "-P", "-m", "confkeep", "status", "--json"],
            cwd="/",
            env={**fresh_environment(), **printed},
            capture_output=True,
            check=True,
        )
        assert json.loads(elsewhere.stdout)["tenants"] == [TENANT]

        # It sends webhooks too.
        wait_for(
            lambda: json.loads(run(folder, "hooks", "list", "--json"))["sending"],
            "what sends webhooks",
        )

        refused = run(folder, "up", status=4)
        assert f"is in use by process {up.pid}" in refused

        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0
    assert "committed a batch" in (folder / "out").read_text()
    assert processes_of(folder) == []
    assert not (folder / "confkeep-data" / "up.json").exists()
    run(folder, "status", status=11)
    git(folder / "confkeep-data" / "store" / f"{TENANT}.git", "fsck", "--strict")
    assert "something else" in run(folder, "demo", "--data", "confkeep-data", status=6)


def test_what_was_accepted_while_no_worker_ran_is_committed_by_the_next_up(folder: Path) -> None:
    exports_of(folder / "exports", devices=1, versions=1)
    arguments = ("enqueue", TENANT, DEVICE, "--export", "-", "-m", "m")
    with running_up(folder) as up:
        (worker,) = [
            p
            for p in psutil.Process(up.pid).children()
            if "-m confkeep worker" in " ".join(p.cmdline())
        ]
        worker.suspend()
        try:
            late = run(folder, *arguments, "--wait", "--timeout", "0.3", status=16, stdin=b"one\n")
            said = run(folder, "import", "exports", "--timeout", "0.5", status=16)
        finally:
            worker.resume()
            worker.terminate()
        assert "no worker answered" in late
        assert "no worker answered for 0.5 s; 1 accepted backup without a receipt" in said
        assert "confkeep status" in said
        # A worker that ends by itself ends all, with its log named.
        assert up.wait(30) == 5
    assert "see " in (folder / "err").read_text()

    with running_up(folder):
        wait_for(lambda: (folder / "confkeep-data/store" / f"{TENANT}.git").exists(), "the commit")
        run(folder, *arguments, "--wait", stdin=b"two\n")
        versions = json.loads(run(folder, "history", TENANT, DEVICE, "--json"))["versions"]
        assert [version["lines_added"] for version in versions] == [1, 1]


def test_the_demo_shows_what_it_promises(folder: Path) -> None:
    # A user's own settings must not be touched by it.
    environment = {
        **fresh_environment(),
        "CONFKEEP_REDIS_URL": "redis://nowhere.invalid:1/0",
        "CONFKEEP_GIT_STORE_PATH": str(folder / "precious"),
        "CONFKEEP_SHARDS": "nonsense",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "confkeep", "demo"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert processes_of(folder) == []
    assert not (folder / "precious").exists()
    assert "600 backups of 120 devices of 3 tenants are in git" in said
    assert "\x1b" not in said
    assert "+++ b/export.rsc" in said
    assert re.search(r"^[0-9a-f]{7,} \S+: poll 5$", said, re.MULTILINE)
    assert "confkeep history birch core1-school\n" in said
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", said), "people type and read names"

    store = folder / "confkeep-data" / "demo" / "store"
    repositories = sorted(store.glob("*.git"))
    assert len(repositories) == 3
    for repository in repositories:
        # 200 backups and the tenant's name.
        assert git(repository, "rev-list", "--count", "main").decode().strip() == "201"
        git(repository, "fsck", "--strict")
    # All but one device have a binary.
    files = b"".join(git(path, "ls-tree", "-r", "--name-only", "main") for path in repositories)
    assert files.count(b"export.rsc") == 120
    assert files.count(b"backup.bin") == 119

    # The commands to go on with work when they are pasted.
    pasted = re.findall(r"^  (\S.*)$", said[said.index("Go on with") :], re.MULTILINE)
    assert len(pasted) == 5
    subprocess.run(
        ["sh", "-euc", "\n".join(pasted)], cwd=folder, env=fresh_environment(), check=True,
        capture_output=True,
    )  # fmt: skip
    assert (folder / "restored" / "export.rsc").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(folder: Path, number: signal.Signals) -> None:
    demo = start(folder, "demo")
    data = folder / "confkeep-data" / "demo"
    wait_for(lambda: any((data / "store").glob("*.git")) or demo.poll() is not None, "a commit")
    demo.send_signal(number)

    assert demo.wait(30) == 130
    assert processes_of(folder) == []
    assert b"Traceback" not in (folder / "err").read_bytes()


def test_a_demo_that_fails_leaves_no_process(folder: Path) -> None:
    demo = start(folder, "demo")
    data = folder / "confkeep-data" / "demo"
    wait_for(lambda: (data / "up.json").exists() or demo.poll() is not None, "the demo's server")
    for child in psutil.Process(demo.pid).children():
        child.kill()

    assert demo.wait(60) != 0
    assert processes_of(folder) == []


def test_a_demo_removes_nothing_but_a_demo(folder: Path) -> None:
    data = folder / "confkeep-data" / "demo"
    data.mkdir(parents=True)
    (data / "store").mkdir()
    (data / "store" / "mine").touch()

    assert "something else" in run(folder, "demo", status=6)
    assert (data / "store" / "mine").exists()


def test_two_demos_do_not_share_a_folder(folder: Path) -> None:
    data = folder / "confkeep-data" / "demo"
    data.mkdir(parents=True)
    with (data / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (data / "made-by-confkeep-demo").touch()
        assert "is in use" in run(folder, "demo", status=4)
