"""The package installs as the pages say: from a wheel of the project, which is whole."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.unit.deploy import facts

PAGES = sorted([*facts.ROOT.glob("*.md"), *(facts.ROOT / "docs").rglob("*.md")])
#: `pip install confkeep`, in all its spellings; with an extra it finds the one that is installed.
_BY_NAME = re.compile(r"pip install (?:-\S+ )*['\"]?confkeep(?![\[\w.-])")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(facts.ROOT)))
def test_no_page_installs_from_an_index_that_does_not_have_it(path: Path) -> None:
    assert _BY_NAME.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line", ["pip install confkeep", "`pip install confkeep`,", "pip install -U 'confkeep'"]
)
def test_installing_by_name_is_noticed(line: str) -> None:
    assert _BY_NAME.search(line)


def test_every_extra_that_is_named_is_there() -> None:
    project = tomllib.loads((facts.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    sources = [*PAGES, *(facts.ROOT / "worker").rglob("*.py")]
    named = {
        extra
        for path in sources
        for extra in re.findall(r"(?:confkeep|\.whl)\[(\w+)\]", path.read_text("utf-8"))
    }
    assert {"flower", "otel", "sentry", "local"} <= named <= project["optional-dependencies"].keys()


def test_the_wheel_holds_all_that_runs(tmp_path: Path) -> None:
    page = (facts.ROOT / "docs/deploy/README.md").read_text("utf-8")
    [line] = re.findall(r"python3 -m (pip wheel .*) --wheel-dir dist \.\n", page)
    version = tomllib.loads((facts.ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "version"
    ]
    name = f"confkeep-{version}-py3-none-any.whl"
    assert f"pip install dist/{name}\n" in page
    # What builds is installed already: a test asks no index.
    command = [sys.executable, "-m", *line.split(), "--no-build-isolation", "--quiet"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(tmp_path), str(facts.ROOT)]
    subprocess.run(command, check=True)
    [wheel] = tmp_path.iterdir()
    assert wheel.name == name
    with zipfile.ZipFile(wheel) as opened:
        packed = {each for each in opened.namelist() if ".dist-info/" not in each}
        opened.extractall(tmp_path / "installed")
    expected = {
        str(path.relative_to(facts.ROOT))
        for package in ("confkeep", "tasks", "worker")
        for path in (facts.ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    # `-I`: neither this folder nor the environment lends it anything.
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
        "import tasks, confkeep.broker.scripts, worker.cli\n"
        "print(tasks.__file__); worker.cli.cli(['--version'], prog_name='confkeep')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == [
        str(tmp_path / "installed/tasks/__init__.py"),
        f"confkeep {version}",
    ]
