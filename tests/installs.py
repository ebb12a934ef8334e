"""Environments that hold the built wheels and what these declare, and nothing else of this machine's."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pip
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECTS = (ROOT, ROOT / "packaging" / "confkeep-worker")


def build_wheels(folder: Path) -> dict[str, Path]:
    """The wheels of both distributions, by their names."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), *map(str, PROJECTS)]
    subprocess.run(command, check=True)
    return {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    path: Path

    @property
    def python(self) -> str:
        return str(self.path / "bin" / "python")

    @property
    def packages(self) -> Path:
        return next((self.path / "lib").glob("python*/site-packages"))

    def pip(self, *arguments: str) -> None:
        # What `pip --python` starts, once it has started itself.
        runner = Path(pip.__file__).with_name("__pip-runner__.py")
        command = [self.python, str(runner), *arguments, "-q", "--disable-pip-version-check"]
        subprocess.run(command, check=True)

    def install(self, *wheels: Path) -> None:
        """Install wheels, and link what they want from the tests' own environment."""
        # Python compiles what it imports; all of it would take some seconds.
        self.pip("install", "--no-index", "--no-deps", "--no-compile", *map(str, wheels))
        own = {canonicalize_name(wheel.name.split("-")[0]) for wheel in wheels}
        for name in own:
            for wanted in _requirements_of(name, self.packages):
                if canonicalize_name(wanted.name) not in own:
                    self.link(wanted)

    def link(self, wanted: Requirement) -> None:
        """Link a distribution of the tests' own environment, and all that it wants."""
        distribution = importlib.metadata.distribution(wanted.name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        here = Path(str(distribution.locate_file("")))
        for top in tops:
            link = self.packages / top
            if link.is_symlink() and top.endswith(".dist-info") and not wanted.extras:
                return  # it is there, with all that it wants
            if not link.exists():
                link.symlink_to(here / top)
        for text in distribution.requires or ():
            further = Requirement(text)
            extras = ("", *wanted.extras)
            if further.marker is None or any(
                further.marker.evaluate({"extra": extra}) for extra in extras
            ):
                self.link(further)


def _requirements_of(name: str, packages: Path) -> list[Requirement]:
    (distribution,) = importlib.metadata.distributions(name=name, path=[str(packages)])
    found = [Requirement(text) for text in distribution.requires or ()]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def create(path: Path) -> Environment:
    """A new environment without any package."""
    venv.create(path, with_pip=False, symlinks=True)
    return Environment(path)
