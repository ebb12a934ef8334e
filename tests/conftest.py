"""Fixtures that all tests share, and where their files are."""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests.judge import judged
from tests.planted import assert_no_secrets, logs_below
from worker.store.upkeep.verify import verify_repository

pytest_plugins = ["confkeep.testing"]

#: The variable that says where temporary files were before.
DISK = "TESTS_DISK"
_MEMORY = Path("/dev/shm")
_PREFIX = "confkeep-tests-"
#: The file that the process of a test run holds a lock on as long as it lives.
_RUNNING = "running.lock"
#: Free bytes there from which on the tests' files have room; they take some 200 MiB at a time.
_ROOM_BYTES = 2 * 1024**3
#: The folders whose modules the tests import.
_SOURCES = ("confkeep", "docs", "tasks", "tests", "worker")


def _has_room() -> bool:
    """Whether files in memory have room, and programs may run from there."""
    try:
        found = os.statvfs(_MEMORY)
        status = Path("/proc/meminfo").read_text()
    except OSError:
        return False
    available = int(status.partition("MemAvailable:")[2].split()[0]) * 1024
    free = min(found.f_bavail * found.f_frsize, available)
    programs = not found.f_flag & os.ST_NOEXEC
    return programs and free >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK)


def _remove_left_folders() -> None:
    """Remove the folders of test runs that were killed: memory that nobody would give back."""
    for running in _MEMORY.glob(f"{_PREFIX}*/{_RUNNING}"):
        # Another run's, another user's, or gone meanwhile.
        with contextlib.suppress(OSError), running.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(running.parent, ignore_errors=True)


def _compile_share(config: pytest.Config, number: int, count: int) -> None:
    """Write the bytecode that is missing of every `count`th module, of which this process has number `number`.

    In a fresh clone each process of a run would compile all modules at the same time as the others.
    """
    root = Path(__file__).parents[1]
    paths = [path for top in _SOURCES for path in (root / top).rglob("*.py")]
    for path in sorted(paths)[number::count]:
        if not path.name.startswith("test_"):
            compileall.compile_file(path, quiet=2)
            continue
        # pytest's own, which has more to tell of an assertion that fails.
        compiled = rewrite.get_cache_dir(path) / f"{path.stem}{rewrite.PYC_TAIL}"
        if rewrite._read_pyc(path, compiled) is None:
            compiled.parent.mkdir(exist_ok=True)
            status, code = rewrite._rewrite_test(path, config)
            rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, status, compiled)


#: Seconds that a test of `make chaos` may take that says no bound of its own.
_CHAOS_TIMEOUT_S = 1_800


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect thousands of tests without looking for garbage among them, then or later.

    Each process of a run collects them all; a third of the time went into that.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound the long forms by what they take: at the bound of all others, pytest ends their process."""
    for item in items:
        if item.get_closest_marker("chaos") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_CHAOS_TIMEOUT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory where there is room, unless `--basetemp` says where.

    The tests sync thousands of files, and no test can see whether a disk did it: the crash tests
    look at the calls. On a busy disk that took most of the time. What starts the whole program is
    on the disk all the same (`disk_path`).
    """
    # A shell starts what runs in its background so, and nohup too; the processes of the tests inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Hundreds of processes import the sources; without their bytecode each compiles them again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # A process of several.
    if (share := getattr(config, "workerinput", None)) is not None:
        _compile_share(config, int(share["workerid"].removeprefix("gw")), share["workercount"])
        return
    if config.option.basetemp is not None or not _has_room():
        return
    os.environ[DISK] = tempfile.gettempdir()
    _remove_left_folders()
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY)
    running = (Path(folder) / "starting").open("w")
    fcntl.flock(running, fcntl.LOCK_EX)
    Path(running.name).rename(Path(folder) / _RUNNING)
    # In this order the lock is held until the folder is gone.
    config.add_cleanup(running.close)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.option.basetemp = f"{folder}/pytest"
    # For what takes a temporary folder by itself, here and in the processes of the tests.
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder of the test's own that is on a disk, wherever the others are."""
    with tempfile.TemporaryDirectory(prefix="confkeep-test-", dir=os.environ.get(DISK)) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _no_secrets_in_shared_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """When all tests of this process have run, no log that they shared holds what they planted."""
    yield
    assert_no_secrets(logs_below(tmp_path_factory.getbasetemp()))


@pytest.fixture(autouse=True)
def _no_secrets_in_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """When a test and all that it started have ended, no log of its own holds what it planted."""
    names = {"tmp_path", "disk_path"} & set(request.fixturenames)
    # Asked for now, so that they are there until this has looked.
    folders = [request.getfixturevalue(name) for name in sorted(names)]
    yield
    for folder in folders:
        assert_no_secrets(logs_below(folder))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store's folder. When the test ends, git and our own verify judge every repository in it."""
    with judged(tmp_path / "git-store") as folder:
        yield folder
        for path in sorted(folder.glob("*.git")):
            assert verify_repository(path).findings == [], path
