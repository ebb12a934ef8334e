"""What a person reads whose disk is full, with real processes on small disks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx

from tests import small_disk
from tests.acceptance.test_cli import fresh_environment
from tests.servers import free_port, wait_for
from worker.process.local import EmbeddedServer

CONFKEEP = (sys.executable, "-P", "-m", "confkeep")


def test_up_says_that_its_servers_disk_is_full(disk_path: Path) -> None:
    disk = disk_path / "confkeep-data" / "redis"
    disk.mkdir(parents=True)
    out, err = disk_path / "out", disk_path / "err"
    command = small_disk.command(disk, "size=1m", [*CONFKEEP, "up", "--concurrency", "1"])
    with out.open("wb") as printed, err.open("wb") as noted:
        up = subprocess.Popen(
            command,
            cwd=disk_path,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=noted,
            env=fresh_environment(),
        )
    try:
        wait_for(lambda: up.poll() is not None or out.read_bytes().count(b"export ") == 2, "up")
        small_disk.fill(small_disk.of(up.pid, disk))
        assert up.wait(60) == 5, "a worker's report is refused within seconds"
    finally:
        up.terminate()
        up.wait(30)
    said = err.read_text()
    assert "the server ended: its disk takes no more bytes (no space left on the device)" in said
    assert f"Free space on the disk of {disk}." in said


def test_up_says_why_its_server_does_not_start_on_a_full_disk(disk_path: Path) -> None:
    data = disk_path / "confkeep-data" / "redis"
    data.mkdir(parents=True)
    # Full before the server's first byte.
    command = small_disk.command(
        data,
        "size=16k",
        ["sh", "-c", f'head -c 16k /dev/zero >{data}/ballast; exec "$@"', "-", *CONFKEEP, "up"],
    )

    done = subprocess.run(
        command,
        cwd=disk_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=fresh_environment(),
    )
    assert done.returncode in (5, 11), done.stderr
    assert "its disk takes no more bytes (no space left on the device)" in done.stderr
    assert f"Free space on the disk of {data}." in done.stderr


def why_it_ended(folder: Path, size: str, *end: str) -> str:
    """What a server on a small disk says of its end.

    Args:
        end: the statements that end it.
    """
    disk = folder / "server"
    disk.mkdir()
    program = "\n".join(
        (
            "import redis",
            "from pathlib import Path",
            "from worker.process.local import EmbeddedServer",
            f"server = EmbeddedServer(Path({str(disk)!r}))",
            "server.start()",
            *end,
            "server._child.process.wait()",
            "print(*server.why_not('it ended'), sep='\\n')",
        )
    )
    command = small_disk.command(disk, f"size={size}", [sys.executable, "-c", program])
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_server_that_was_killed_on_a_small_disk_is_not_told_as_a_full_one(
    disk_path: Path,
) -> None:
    said = why_it_ended(disk_path, "8m", "server._child.process.kill()")
    assert said.startswith("it ended: it was killed\n")
    assert "disk" not in said


def test_a_server_whose_large_write_was_cut_short_tells_of_its_disk(disk_path: Path) -> None:
    # The server takes its beginning of the write back: afterwards there is room again.
    said = why_it_ended(
        disk_path,
        "12m",
        "try:",
        "    redis.Redis(unix_socket_path=str(server.socket), retry=None).set('x', bytes(16 << 20))",
        "except redis.ConnectionError:",
        "    pass",
    )
    assert "it ended: its disk takes no more bytes (no space left on the device)\n" in said


def test_a_server_that_ended_tells_of_its_disk_only_when_that_is_full(disk_path: Path) -> None:
    log = disk_path / "server.log"
    log.write_text("Error writing to the AOF file: No space left on device\n")
    server = EmbeddedServer(disk_path)
    server.start()
    server.stop()
    problem, hint = server.why_not("it ended")
    assert problem == f"it ended; see {log}", "what an earlier start met is over"
    assert hint == "The last lines of that log say why."
    with log.open("a") as more:
        more.write("Error writing to the AOF file: No space left on device\n")
    assert server.why_not("it ended")[0].endswith("(no space left on the device)")


def test_http_accepts_nothing_on_a_full_disk_and_says_so(disk_path: Path) -> None:
    out, port = disk_path / "out", free_port()
    disks = {full: disk_path / full for full in ("CONFKEEP_STAGING_PATH", "TMPDIR")}
    command = [*CONFKEEP, "up", "--concurrency", "1", "--http", str(port)]
    for disk in disks.values():
        disk.mkdir()
        command = small_disk.command(disk, "size=4m", command)
    environment = {**fresh_environment(), "CONFKEEP_STAGING": "volume"}
    environment |= {full: str(disk) for full, disk in disks.items()}
    with out.open("wb") as printed:
        up = subprocess.Popen(
            command, cwd=disk_path, stdin=subprocess.DEVNULL, stdout=printed, env=environment
        )
    try:
        wait_for(lambda: up.poll() is not None or b"token=" in out.read_bytes(), "up")
        token = re.findall(r"token=(\S+)", out.read_text())[0]
        api = f"http://127.0.0.1:{port}/v1"
        files = {"export": b"/ip address\n", "binary": b"\x88\xac\xa1\xb1" + bytes(2 << 20)}
        for full, disk in disks.items():
            place = f"{api}/tenants/{uuid.uuid4()}/devices/{uuid.uuid4()}/backups"
            key = {"X-Auth-Token": token, "Idempotency-Key": str(uuid.uuid4())}
            inside = small_disk.of(up.pid, disk)
            before = {path for path in inside.rglob("*") if path.is_file()}
            ballast = small_disk.fill(inside)
            # Python would look for another folder if this one took nothing at all.
            os.truncate(ballast, ballast.stat().st_size - (512 << 10))

            refused = httpx.post(place, files=files, headers=key, params={"wait": 30}, timeout=60)

            assert refused.status_code == 503, refused.text
            problem = refused.json()
            assert problem["type"].endswith("#StagingUnavailable")
            assert "No space left on device" in problem["detail"]
            assert full in problem["hint"]
            assert problem["retryable"] is True
            ballast.unlink()
            assert {path for path in inside.rglob("*") if path.is_file()} == before
            backup = f"{api}/backups/{key['Idempotency-Key']}"
            assert httpx.get(backup, headers=key, timeout=60).status_code == 404
            accepted = httpx.post(place, files=files, headers=key, params={"wait": 30}, timeout=60)
            assert accepted.json()["state"] == "committed", accepted.text
    finally:
        up.terminate()
        up.wait(30)
