"""A kill or an error at every write, sync, rename and failpoint of a commit."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from confkeep.errors import RepositoryBusy, StoreUnavailable
from tests.crash import strace
from tests.crash.check import committed_ids, problem_of
from tests.crash.ready import Ready, ready
from tests.crash.test_crash_states import TENANT
from tests.crash.writer import PACK_MADE, batches
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

_FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")

FAILPOINTS = (
    "repository-initialised",
    "repository-named",
    *PACK_MADE,
    "ref-locked",
    "ref-moved",
    "pack-let-go",
    "committed",
)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    with ready(tmp_path_factory.mktemp("ready")) as found:
        yield found


def acknowledged(stdout: str) -> list[str]:
    """The ids of the complete lines that the writer wrote."""
    return [
        word
        for line in stdout.splitlines(keepends=True)
        if line.startswith("ACK ") and line.endswith("\n")
        for word in line.split()[1:]
    ]


def calls_of_a_commit(path: Path, log: Path) -> list[tuple[str, int]]:
    """Each write, sync and rename in the store of a run of the writer, numbered by kind."""
    counted: Counter[str] = Counter()
    found = []
    for call in strace.trace([strace.writer_command(path)], log):
        counted[call.name] += 1
        in_store = str(path) in call.arguments or any(
            str(path).encode() in text for text in (*call.strings, _path_of(call))
        )
        if (
            call.name in ("write", "writev", "pwrite64", "fsync", "fdatasync", "rename")
            and in_store
        ):
            found.append((call.name, counted[call.name]))
    return found


def _path_of(call: strace.Call) -> bytes:
    """The path of the call's descriptor, as `-y` shows it."""
    _, _, rest = call.arguments.partition("<")
    text = rest.partition(">")[0]
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_fault_at_any_call_loses_nothing(fault: str, tmp_path: Path, writer: Ready) -> None:
    strace.need_strace()
    first = tmp_path / "first" / TENANT
    Writer(create_repository(first)).commit_backups(batches()[0])
    traced = tmp_path / "traced" / TENANT
    shutil.copytree(first, traced)
    calls = calls_of_a_commit(traced, tmp_path / "log")
    kinds = Counter(name for name, _number in calls)
    assert kinds["writev"] >= 3
    assert kinds["fsync"] >= 5
    assert kinds["rename"] >= 3
    for name, number in calls:
        path = tmp_path / f"{name}-{number}" / TENANT
        shutil.copytree(first, path)
        done = writer.run(path, fault=(name, number, fault))
        where = f"{fault} at {name} {number}: {done.stderr}"
        ids = acknowledged(done.stdout)
        if fault == "signal=KILL":
            assert done.returncode == -signal.SIGKILL, where
        else:
            assert done.returncode in (0, StoreUnavailable.exit_code), where
            assert "Traceback" not in done.stderr, where
            assert done.returncode or len(ids) == 4, where
            assert [p.name for p in path.rglob("*confkeep_*")] == [], where
            assert not list(path.rglob("main.lock")), where
            assert not list(path.rglob("*.keep")), where
        assert problem_of(path, ids) is None, where


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_kill_at_any_failpoint_is_mended_at_the_next_opening(
    failpoint: str, tmp_path: Path, writer: Ready
) -> None:
    path = tmp_path / TENANT
    done = writer.run(path, "--kill-at", failpoint)
    assert done.returncode == -9, f"the writer did not come to {failpoint}: {done.stderr}"
    assert problem_of(path, acknowledged(done.stdout)) is None
    assert [p.name for p in path.rglob("*confkeep_*")] == []
    assert not list(path.rglob("*.lock"))


def test_the_lock_file_of_a_dead_writer_stays_while_another_lives(tmp_path: Path) -> None:
    from worker.store.git import flock

    path = tmp_path / TENANT
    repository = create_repository(path)
    first, second = batches()
    Writer(repository).commit_backups(first)
    lock = path / "refs" / "heads" / "main.lock"
    lock.touch()
    with flock.shared(path):
        # Whose lock file it is cannot be known: perhaps the living writer's.
        with pytest.raises(RepositoryBusy) as caught:
            Writer(create_repository(path)).commit_backups(second)
        assert caught.value.retryable
        assert lock.exists()
    assert committed_ids(path) == [backup.backup_id for backup in first]
    Writer(create_repository(path)).commit_backups(second)
    assert problem_of(path, [backup.backup_id for backup in (*first, *second)]) is None
