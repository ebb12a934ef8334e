"""The layout: imports run one way, importing does no work, and the public names are the API."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import confkeep
import tasks

ROOT = Path(__file__).parents[2]

#: Folders, from the top down: a module imports from its own floor and from those below.
FLOORS = (
    "worker/cli",
    "worker/http",
    "tasks",
    # Two have names that others rely on.
    "worker.git_store",
    "worker/reading",
    "worker/figures",
    "worker/hooks",
    "worker/engine",
    "worker.app",
    "worker/process",
    "worker/queue",
    "worker/broker",
    "worker/observe",
    "worker",
    # What producers install, which knows nothing of what runs.
    "confkeep",
    "confkeep/queue",
    "confkeep/broker",
    "confkeep/observe",
    "words",
    "worker/masking",
    "confkeep/routeros",
    "confkeep/vendors",
)
#: Words that all use.
WORDS = {
    f"confkeep.{name}"
    for name in (
        "errors",
        "ids",
        "labels",
        "models",
        "modes",
        "settings",
        "signing",
        "urls",
        "wording",
    )
}
#: The store's own floors. It stands beside the queue: it knows nothing of that, and little of the rest.
STORE_FLOORS = (
    "worker/store/upkeep",
    "worker/store/rewriting",
    "worker/store/writing",
    "worker/store/history",
    "worker/store/repository",
    "worker/store",
    "worker/store/git",
)
#: Who works with the store.
STORE_USERS = {
    "worker/cli",
    "worker/http",
    "worker/reading",
    "worker/figures",
    "worker/hooks",
    "tasks",
    "worker.git_store",
    "worker/engine",
    "worker/process",
}
STORE_KNOWS = {f"confkeep.{name}" for name in ("errors", "ids", "labels", "modes", "wording")}


#: Rooms with folders of their own, whose modules may import each other's.
_PARTED = ("worker/cli", "worker/http")


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for package in ("confkeep", "worker", "tasks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def project_imports() -> list[tuple[str, str]]:
    known = modules()
    return sorted(
        {
            (name, imported)
            for name, path in known.items()
            for imported in imports_of(path)
            if imported in known and imported not in ("confkeep", "worker", "tasks.__init__")
        }
    )


def room_of(module: str) -> str:
    """The folder that a module is in; folders below the command line's and HTTP's are of their rooms."""
    if module in FLOORS:
        return module
    if module in WORDS:
        return "words"
    if module == "confkeep.__main__":  # the command `confkeep`, which finds the command line
        return "worker/cli"
    path = modules()[module].relative_to(ROOT)
    folder = path.parent.as_posix()
    return next((room for room in _PARTED if folder.startswith(room)), folder)


def test_every_module_has_a_place() -> None:
    assert {room_of(name) for name in modules()} == {*FLOORS, *STORE_FLOORS}


def test_a_room_can_be_overlooked() -> None:
    """But for the command line's, where each command has a module."""
    folders = Counter(path.relative_to(ROOT).parent.as_posix() for path in modules().values())
    for folder in set(folders) - {"worker/cli"}:
        assert folders[folder] <= 21, folder  # with the one that names the room


def test_imports_run_one_way() -> None:
    assert [pair for pair in project_imports() if not runs_down(*pair)] == []


def runs_down(importer: str, imported: str) -> bool:
    above, below = room_of(importer), room_of(imported)
    if above in STORE_FLOORS and below not in STORE_FLOORS:
        return imported in STORE_KNOWS or below == "confkeep/routeros"
    if below in STORE_FLOORS and above not in STORE_FLOORS:
        return above in STORE_USERS
    floors = STORE_FLOORS if above in STORE_FLOORS else FLOORS
    return floors.index(above) <= floors.index(below)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for types."""
    graph: dict[str, set[str]] = {}
    for importer, imported in project_imports():
        graph.setdefault(importer, set()).add(imported)
    graphlib.TopologicalSorter(graph).prepare()


def test_the_store_is_free_of_the_queues_libraries() -> None:
    for name, path in modules().items():
        if name.startswith("worker.store"):
            roots = {imported.split(".")[0] for imported in imports_of(path)}
            assert not roots & {"redis", "celery", "kombu", "pydantic", "pydantic_settings"}, name


def test_every_module_says_what_it_is_in_its_first_line() -> None:
    for name, path in modules().items():
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert docstring, name
        assert docstring.splitlines()[0].endswith("."), name


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "CONFKEEP_REDIS_URL": "nonsense", "CONFKEEP_SHARDS": "-1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_tasks_loads_no_git() -> None:
    assert run("import sys, tasks; print('pygit2' in sys.modules)") == "False"


def test_metrics_that_are_off_import_nothing_of_prometheus() -> None:
    names = [n for n in modules() if not n.endswith("__main__")]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "from worker.observe import measure, metrics\n"
        "measure.count(metrics.WORKER_COMMITTED)\n"
        "measure.observe(metrics.WORKER_STEP, [1.0], 'pack')\n"
        "measure.after_fork()\n"
        "print([n for n in sys.modules if n.startswith('prometheus')])\n"
    )
    assert run(code) == "[]"


def test_importing_reads_no_environment_and_opens_nothing() -> None:
    # The environment is nonsense: reading it at import would fail.
    names = [name for name in modules() if not name.endswith("__main__")]
    code = (
        "import importlib, os, threading\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(threading.active_count(), len(os.listdir('/proc/self/fd')) - before)\n"
    )
    threads, descriptors = run(code).split()
    assert threads == "1"
    assert int(descriptors) <= 0, "no socket and no file stays open"


def test_tasks_is_an_alias_of_the_package_for_producers() -> None:
    assert tasks.__all__ == confkeep.__all__
    for name in confkeep.__all__:
        assert getattr(tasks, name) is getattr(confkeep, name)


def test_the_public_names_are_what_type_checkers_take_them_for() -> None:
    """They are found when they are asked for; what the checkers read is written beside."""
    tree = ast.parse((ROOT / "confkeep" / "__init__.py").read_text("utf-8"))
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("confkeep."):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert getattr(confkeep, alias.name) is getattr(module, alias.name)
                seen.add(alias.name)
    assert sorted(seen) == sorted(confkeep.__all__)


def test_only_the_store_and_the_staging_sync_and_rename() -> None:
    allowed = {"worker.store.git.durable", "confkeep.queue.staging"}
    forbidden = {"fsync", "fdatasync", "rename", "replace", "renames", "sync"}
    for name, path in modules().items():
        if name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in forbidden
                and isinstance(node.value, ast.Name)
                and node.value.id == "os"
            ):
                raise AssertionError(f"{name} calls os.{node.attr}")


def test_no_file_holds_the_marks_of_a_half_done_merge() -> None:
    marks = (b"<" * 7 + b" ", b">" * 7 + b" ")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():
        lines = (ROOT / name).read_bytes().splitlines()
        assert not any(line.startswith(marks) for line in lines), name
