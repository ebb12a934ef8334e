"""From nothing to the first difference: `confkeep up`, `import`, `diff`, and nobody types a UUID."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_cli import exports_of, fresh_environment, run, running_up
from tests.conftest import DISK
from tests.judge import GIT_ENVIRONMENT, git
from tests.terminals import OnTerminal

WAIT_S = 60


def export(day: int, address: str) -> bytes:
    return (
        f"# 2026-10-0{day} 04:00:00 by RouterOS 7.16\n/ip address\nadd address={address}\n".encode()
    )


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def commit(tree: Path, day: int, files: dict[str, bytes]) -> None:
    if not tree.exists():
        tree.mkdir()
        git(tree, "init", "-q")
    for name, content in files.items():
        put(tree / name, content)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", f"poll {day}", "--date", f"2026-10-0{day}T04:00:00Z")


def versions(day: int) -> dict[str, bytes]:
    return {"core1": export(day, f"10.0.0.{day}/24"), "edge1": export(day, "10.9.9.9/24")}


def exports(folder: Path) -> None:
    """One file for each host, as a copy of it that somebody made."""
    for name, content in versions(2).items():
        put(folder / f"{name}.rsc", content)


def dated_exports(folder: Path) -> None:
    for day in (1, 2):
        for name, content in versions(day).items():
            put(folder / f"{name}-2026100{day}-0400.rsc", content)


def oxidized(folder: Path) -> None:
    for day in (1, 2):
        commit(folder, day, {f"routers/{n}": content for n, content in versions(day).items()})


def rancid(folder: Path) -> None:
    folder.mkdir()
    for day in (1, 2):
        files = {f"configs/{name}": content for name, content in versions(day).items()}
        commit(
            folder / "core", day, {**files, "router.db": b"core1;mikrotik;up\nedge1;mikrotik;up\n"}
        )


def git_tree(folder: Path) -> None:
    for day in (1, 2):
        commit(folder, day, {f"north/{n}.rsc": content for n, content in versions(day).items()})


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder on a disk in which `confkeep up` runs."""
    disk = os.environ.get(DISK)
    with (
        tempfile.TemporaryDirectory(prefix="confkeep-test-", dir=disk) as path,
        running_up(Path(path)),
    ):
        yield Path(path)


def test_three_commands_lead_to_a_difference(folder: Path) -> None:
    for make in (exports, dated_exports, oxidized, rancid, git_tree):
        name = make.__name__
        make(folder / name)
        run(folder, "import", name, "--tenant", f"of {name}")
        shown = run(folder, "diff", f"of {name}", "core1")
        if make is exports:
            assert run(folder, "diff", "core1") == shown, "one device alone is called so"
        assert "+add address=10.0.0.2/24\n" in shown, name
        assert make is exports or "-add address=10.0.0.1/24\n" in shown, name
        assert "2026-10-02 04:00:00" in shown, name


def test_importing_twice_imports_once(folder: Path) -> None:
    exports_of(folder / "twice", devices=4, versions=6)
    (folder / "twice" / "acme" / "r0" / "7.rsc").write_bytes(b" \r\n")

    planned = json.loads(run(folder, "import", "twice", "--dry-run", "--json"))
    assert (planned["found"], planned["imported"]) == (25, 0)

    first = json.loads(run(folder, "import", "twice", "--json"))
    again = json.loads(run(folder, "import", "twice", "--json"))
    (folder / "twice" / "acme" / "r1" / "7.rsc").write_bytes(b"new\n")
    more = run(folder, "import", "twice")
    strict = run(folder, "import", "twice", "--strict", status=1)

    assert (first["imported"], first["already_there"], len(first["refused"])) == (24, 0, 1)
    assert first["refused"][0]["path"].endswith("acme/r0/7.rsc")
    assert "blank" in first["refused"][0]["reason"]
    assert (again["imported"], again["already_there"]) == (0, 24)
    assert "1 backup imported, 24 already there, 1 refused" in more
    assert "importing: 26 of 26" in strict
    tenant_id = first["ids"]["acme"]
    device_id = first["ids"]["acme/r2"]
    repository = folder / "confkeep-data" / "store" / f"{tenant_id}.git"
    # The captures, and the tenant's name.
    assert git(repository, "rev-list", "--count", "main").decode().strip() == "26"
    versions = json.loads(run(folder, "history", tenant_id, device_id, "--json"))["versions"]
    assert [version["message"] for version in versions] == [
        f"Import {number}.rsc" for number in (6, 5, 4, 3, 2, 1)
    ]
    assert versions[0]["captured_at"] == "2026-01-06T10:00:00Z"
    assert [version["binary_bytes"] is None for version in versions[:2]] == [True, False]
    git(repository, "fsck", "--strict")


def test_another_tools_history_goes_through_the_queue(folder: Path) -> None:
    source = folder / "polled"
    source.mkdir()
    git(source, "init", "-q")
    for number in range(1, 6):
        for node in ("r1", "site/r2"):
            (source / node).parent.mkdir(exist_ok=True)
            (source / node).write_bytes(b"/ip address\n" + b"add a\n" * number)
        git(source, "add", "-A")
        date = f"@{1_600_000_000 + number} +0200"
        git(source, "commit", "-q", "-m", f"poll {number}", "--date", date)

    first = json.loads(run(folder, "import", "polled", "--json"))
    (source / "r1").write_bytes(b"/new\n")
    git(source, "commit", "-q", "-a", "-m", "poll 6")
    again = json.loads(run(folder, "import", "polled", "--json"))

    assert (first["found"], first["imported"], first["refused"]) == (10, 10, [])
    assert (again["imported"], again["already_there"]) == (1, 10)
    ids = first["ids"]
    repository = folder / "confkeep-data" / "store" / f"{ids['site']}.git"
    kept = git(repository, "log", "--format=%at %ai %s %b", "main", "--", ids["site/r2"]).decode()
    assert kept.split("\n")[0].strip() == (
        "1600000005 2020-09-13 14:26:45 +0200 poll 5 By Plain Git <plain@example.net>"
    )
    report = json.loads(run(folder, "drill", "--json"))
    assert report["outcome"] == "proven"
    restored = [t["restored"] for t in report["tenants"] if t["tenant_id"] in ids.values()]
    assert sum(map(len, restored)) == 11


def test_a_terminal_is_asked_what_the_paths_leave_open(folder: Path) -> None:
    for name in ("gate1", "gate2"):
        put(folder / "mine" / "site" / f"{name}.rsc", export(2, "10.0.0.2/24"))
    said = on_a_terminal(
        folder,
        ["import", "mine"],
        [("Which one? ", "3"), ("Which one? ", "2"), ("The tenant's name: ", "typed")],
    )
    assert "site/gate1.rsc  is  device gate1 of tenant site" in said
    assert "--layout '{device}/{any}' says so without a question" in said
    assert "2 backups imported" in said
    assert "site" in run(folder, "devices", "typed")


def test_an_erasure_tells_a_person_no_log_lines_and_whoever_keeps_them_all(folder: Path) -> None:
    for name in ("old1", "old2"):
        put(folder / "gone" / f"{name}.rsc", export(2, "10.0.0.2/24"))
    run(folder, "import", "gone", "--tenant", "closed")
    asked = [("to go on: ", "old1")]
    said = on_a_terminal(folder, ["forget-device", "closed", "old1"], asked)
    said += on_a_terminal(
        folder, ["forget-tenant", "closed", "--wait", "30"], [("to go on: ", "closed")]
    )
    assert "Erased device old1" in said
    assert "Erased tenant closed" in said
    assert "audit log" not in said
    assert not re.search(r"\d\dT\d\d:", said), said

    run(folder, "import", "gone", "--tenant", "kept")
    kept = subprocess.run(
        [sys.executable, "-P", "-m", "confkeep", "forget-device", "kept", "old1", "--yes"],
        cwd=folder,
        env={**fresh_environment(), "CONFKEEP_LOG_FORMAT": "json"},
        capture_output=True,
        check=True,
        timeout=WAIT_S,
    )
    lines = [json.loads(line) for line in kept.stderr.splitlines() if line.startswith(b"{")]
    assert [line["state"] for line in lines if line["action"] == "erasure"] == ["begun", "done"]


def on_a_terminal(folder: Path, arguments: list[str], answers: list[tuple[str, str]]) -> str:
    """What a command shows at a terminal; each answer is typed when its prompt stands last."""
    environment = {**fresh_environment(), **GIT_ENVIRONMENT, "TERM": "dumb"}
    shown = OnTerminal(*arguments, folder=folder, environment=environment, COLUMNS="200")
    try:
        said = ""
        for prompt, answer in answers:
            said += shown.until(lambda text: text.endswith(prompt), prompt)  # noqa: B023
            shown.type(answer)
        said += shown.rest()
        assert shown.process.wait(WAIT_S) == 0, said
    finally:
        shown.close()
    return said
