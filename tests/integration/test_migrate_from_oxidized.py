"""`docs/migrate-from-oxidized.md`, run as it stands: each command, and the output that is shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fastapi.routing import APIRoute

from tests.acceptance.test_cli import running_up
from tests.acceptance.test_start import _BLOCK, pattern_of, run
from tests.judge import git
from tests.servers import free_port, is_served, wait_for
from worker.engine.directory import directory_of
from worker.engine.made_ids import made_id
from worker.http.app import OXIDIZED
from worker.store.repository.tenant_repository import open_repository, repository_path

PAGE = Path(__file__).parents[2] / "docs" / "migrate-from-oxidized.md"


def oxidizeds_repository(folder: Path) -> None:
    """A node in a group with two versions, and one without a group."""
    work = folder / "work"
    (work / "edge").mkdir(parents=True)
    git(work, "init", "-q")
    for number in (1, 2):
        (work / "edge" / "r1.example.net").write_text(
            f"# v{number}\n/system identity\nset name=r1\n"
        )
        (work / "sw2").write_text("hostname sw2\n")
        git(work, "add", "-A")
        git(
            work, "commit", "-q", "-m", f"update {number}", "--date", f"2026-10-0{number}T04:00:00Z"
        )
    git(folder, "clone", "-q", "--bare", "work", "devices.git")


def test_every_command_works_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    oxidizeds_repository(tmp_path)
    port = free_port()
    text = PAGE.read_text("utf-8").replace("8080", str(port))
    text = text.replace("/var/lib/oxidized/devices.git", "devices.git")
    blocks = [(found["kind"], found["text"]) for found in _BLOCK.finditer(text)]
    assert blocks[0] == ("sh", f"confkeep up --http {port}\n")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with running_up(tmp_path, "--http", str(port)):
        wait_for(lambda: is_served(port), "HTTP")
        output = ""
        for kind, block in blocks[1:]:
            if kind == "text":
                assert pattern_of(block).fullmatch(output + "\n" * (not output.endswith("\n")))
            else:
                output = run(block, tmp_path, environment)
        path = repository_path(tmp_path / "confkeep-data" / "store", made_id("acme"))
        wait_for(lambda: b"alice" in git(path, "log", "-1", "--format=%B", "main"), "the commit")
        found = {each.called.name: each for each in directory_of(open_repository(path))}
    assert {name: each.versions for name, each in found.items()} == {"r1.example.net": 3, "sw2": 1}


def test_the_page_names_every_route() -> None:
    page = PAGE.read_text("utf-8")
    for router in OXIDIZED:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = route.path.partition("{")[0].removesuffix(".json")
            assert path in page, path
