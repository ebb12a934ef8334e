"""The two distributions: what each holds and wants, and that the pages install them as they are built."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import installs
from tests.unit.deploy import facts

PAGES = sorted([*facts.ROOT.glob("*.md"), *(facts.ROOT / "docs").rglob("*.md")])
#: `pip install confkeep`, in all its spellings; with an extra it finds the one that is installed.
_BY_NAME = re.compile(r"pip install (?:-\S+ )*['\"]?confkeep(?![\[\w.-])")
#: What a portal gets besides `confkeep`.
SLIM = {"celery", "isal", "pydantic", "pydantic-settings", "python-dotenv", "redis", "structlog"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return installs.build_wheels(tmp_path_factory.mktemp("wheels"))


def projects() -> Iterator[dict[str, Any]]:
    for folder in installs.PROJECTS:
        yield tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(facts.ROOT)))
def test_no_page_installs_from_an_index_that_does_not_have_it(path: Path) -> None:
    assert _BY_NAME.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line", ["pip install confkeep", "`pip install confkeep`,", "pip install -U 'confkeep'"]
)
def test_installing_by_name_is_noticed(line: str) -> None:
    assert _BY_NAME.search(line)


def test_every_extra_that_is_named_is_there() -> None:
    extras = next(projects())["optional-dependencies"].keys()
    sources = [*PAGES]
    for package in ("confkeep", "worker"):
        sources += (facts.ROOT / package).rglob("*.py")
    named = {
        extra
        for path in sources
        for extra in re.findall(r"(?:confkeep|\.whl)\[(\w+)\]", path.read_text("utf-8"))
    }
    assert {"flower", "otel", "sentry", "local", "worker"} <= named <= extras


def test_both_are_of_one_version_and_want_each_other() -> None:
    client, worker = projects()
    version = client["version"]
    assert worker["version"] == version
    assert f"confkeep=={version}" in worker["dependencies"]
    assert client["optional-dependencies"]["worker"] == [f"confkeep-worker=={version}"]
    assert worker["requires-python"] == client["requires-python"]


def test_a_portal_installs_little() -> None:
    client = next(projects())
    assert {re.split(r"[\[>]", each)[0] for each in client["dependencies"]} == SLIM


@pytest.mark.parametrize(
    ("name", "packages"), [("confkeep", ["confkeep"]), ("confkeep-worker", ["tasks", "worker"])]
)
def test_each_wheel_holds_its_packages_whole_and_nothing_else(
    wheels: dict[str, Path], name: str, packages: list[str]
) -> None:
    expected = {
        str(path.relative_to(facts.ROOT))
        for package in packages
        for path in (facts.ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[name]) as opened:
        packed = {each for each in opened.namelist() if ".dist-info/" not in each}
    shared = {each.split(".data/data/")[1] for each in packed if ".data/" in each}
    assert {each for each in packed if ".data/" not in each} == expected
    assert shared == ({"share/man/man1/confkeep.1"} if "worker" in packages else set())


def test_the_page_builds_and_installs_these(wheels: dict[str, Path], tmp_path: Path) -> None:
    page = (facts.ROOT / "docs/deploy/README.md").read_text("utf-8")
    [line] = re.findall(r"python3 -m pip wheel (.*)\n", page)
    assert line == "--no-deps --wheel-dir dist . ./packaging/confkeep-worker"
    client, worker = wheels["confkeep"].name, wheels["confkeep-worker"].name
    assert f"pip install dist/{client}\n" in page
    assert f"pip install dist/{client} dist/{worker}\n" in page


def test_the_command_is_whole_where_both_are_installed(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    environment = installs.create(tmp_path / "env")
    environment.install(*wheels.values())
    done = subprocess.run(
        [environment.path / "bin" / "confkeep", "--version"], capture_output=True, check=True
    )
    assert done.stdout.decode() == f"confkeep {next(projects())['version']}\n"
    assert (environment.path / "share/man/man1/confkeep.1").is_file()
    code = "import tasks.receive, worker; print(tasks.__file__, worker.__file__)"
    done = subprocess.run([environment.python, "-I", "-c", code], capture_output=True, check=True)
    homes = [Path(text).parents[1] for text in done.stdout.decode().split()]
    assert homes == [environment.packages] * 2
