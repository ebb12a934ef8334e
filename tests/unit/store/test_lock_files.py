"""Lock files that the dead left go, those of the living stay; and what a locked ref says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confkeep.errors import RepositoryBusy
from tests.failpoints import killed_at
from tests.histories import device_ids, random_backups
from tests.judge import GIT_ENVIRONMENT, git
from worker.store.git import durable, flock, lock_files, refs
from worker.store.repository import recovery
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting.forget import forget_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.rewrite import before_refs
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Kind
from worker.store.writing.commit import Writer

NOW_S = 1_760_000_000

#: Where git 2.39 and libgit2 1.9 create a lock file in a bare repository.
PLACES = [
    "HEAD.lock",
    "config.lock",
    "packed-refs.lock",
    "packed-refs.new",
    "shallow.lock",
    "index.lock",
    "gc.pid.lock",
    "gc.log.lock",
    "refs/heads/main.lock",
    "refs/heads/some/branch.lock",
    "refs/tags/v1.lock",
    "refs/confkeep/before-retention/20251009T000000Z.lock",
    "logs/HEAD.lock",
    "logs/refs/heads/main.lock",
    "objects/maintenance.lock",
    "objects/info/alternates.lock",
    "objects/info/commit-graph.lock",
    "objects/info/commit-graphs/commit-graph-chain.lock",
    "objects/pack/multi-pack-index.lock",
    "objects/pack/multi-pack-index.d/multi-pack-index-chain.lock",
]


def fill(path: Path) -> None:
    repository = create_repository(path)
    for seed in range(3):
        Writer(repository).commit_backups(random_backups(device_ids(2), 4, seed), now_s=NOW_S)


@pytest.fixture
def path(path: Path) -> Path:
    """A repository with commits."""
    fill(path)
    return path


def retain(path: Path, *, after_s: int, grace_s: int) -> int:
    """Run retention that keeps the last of each device; how many histories it pruned."""
    return apply_retention(
        create_repository(path),
        policy_of({"keep_last": 1}),
        now_s=NOW_S + after_s,
        grace_s=grace_s,
    ).pruned


def plant(path: Path, place: str, *, age_s: float = 60.0) -> Path:
    lock = path / place
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_bytes(b"")
    os.utime(lock, (time.time() - age_s,) * 2)
    return lock


@contextmanager
def living_git(path: Path, ref: str) -> Iterator[subprocess.Popen[bytes]]:
    """A git of somebody else's that holds the lock of a ref, and waits."""
    old = git(path, "rev-parse", "main").strip()
    process = subprocess.Popen(
        ["git", "update-ref", "--stdin"],
        cwd=path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=GIT_ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"start\nupdate %s %s\nprepare\n" % (ref.encode(), old))
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == [b"start: ok\n", b"prepare: ok\n"]
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_verify_tells_every_lock_that_was_left_and_repair_removes_it(path: Path) -> None:
    locks = [plant(path, place) for place in PLACES]
    report = verify_repository(path)
    found = sorted((finding.kind, finding.place) for finding in report.findings)
    assert found == sorted((Kind.LEFTOVER, place) for place in PLACES)
    assert all(lock.exists() for lock in locks), "verify changes nothing"
    assert repair_repository(report).left == []
    assert not any(lock.exists() for lock in locks)
    shutil.rmtree(path / "objects/pack/multi-pack-index.d")


def test_the_next_opening_removes_every_lock_that_was_left(path: Path) -> None:
    locks = [plant(path, place) for place in PLACES]
    repository = create_repository(path)
    assert [lock.name for lock in locks if lock.exists()] == []
    Writer(repository).commit_backups(random_backups(device_ids(2), 2, 9), now_s=NOW_S)
    shutil.rmtree(path / "objects/pack/multi-pack-index.d")


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/other"])
def test_the_lock_of_a_living_git_stays_for_as_long_as_it_lives(path: Path, ref: str) -> None:
    with living_git(path, ref):
        lock = path / f"{ref}.lock"
        os.utime(lock, (NOW_S, NOW_S))
        create_repository(path)
        assert verify_repository(path).findings == []
        assert lock.exists()
        if ref == "refs/heads/main":
            with pytest.raises(RepositoryBusy, match="refs/heads/main is locked"):
                Writer(create_repository(path)).commit_backups(random_backups(device_ids(2), 2, 9))
    assert lock.exists(), "it was killed"
    Writer(create_repository(path)).commit_backups(random_backups(device_ids(2), 2, 9))
    assert not lock.exists()


def test_a_git_of_another_repository_of_the_same_name_keeps_nothing(
    path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "mirror" / path.name
    fill(other)
    with living_git(other, "refs/heads/main"):
        lock = plant(path, "refs/heads/main.lock")
        create_repository(path)
        assert not lock.exists()


def test_a_fresh_lock_is_judged_when_it_is_old_enough(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = plant(path, "refs/heads/main.lock", age_s=0)
    monkeypatch.setattr(lock_files, "LEAST_AGE_S", 0.3)
    started = time.monotonic()
    create_repository(path)
    assert not lock.exists()
    assert time.monotonic() - started >= 0.25


def test_a_fresh_lock_that_keeps_nobody_is_not_waited_for(path: Path) -> None:
    lock = plant(path, "objects/info/commit-graph.lock", age_s=0)
    with flock.exclusive(path) as alone:
        assert alone
        assert lock_files.ownerless(path) == []
    assert lock.exists()
    lock.unlink()


class _Impatient:
    """A clock on which nobody may wait."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(_seconds: float) -> None:
        raise AssertionError("it waits for a lock that may go at once")


def test_our_own_lock_goes_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves the lock as a second name of a temporary file, which says whose it is."""
    monkeypatch.setattr(lock_files, "time", _Impatient)
    real = durable.remove
    with monkeypatch.context() as patch:
        # What a killed process would have removed.
        patch.setattr(durable, "remove", lambda _path: None)
        with killed_at("ref-locked"):
            Writer(create_repository(path)).commit_backups(random_backups(device_ids(2), 2, 9))
    assert durable.remove is real
    lock = path / "refs/heads/main.lock"
    assert lock.exists()
    # A recovery that is killed as well must not take away what says it first.
    found = recovery.leftovers(path)
    assert found.index(lock) < min(map(found.index, path.glob("tmp_confkeep_*")))
    Writer(create_repository(path)).commit_backups(random_backups(device_ids(2), 2, 9))
    assert not list(path.rglob("*.lock"))
    assert not list(path.glob("tmp_confkeep_*"))


def test_a_lock_on_a_history_of_before_blocks_neither_retention_nor_erasure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_files, "time", _Impatient)
    assert retain(path, after_s=10, grace_s=86_400) == 0
    [ref] = before_refs(open_repository(path).git)
    plant(path, f"{ref}.lock", age_s=0)
    assert retain(path, after_s=20, grace_s=0) == 1
    Writer(create_repository(path)).commit_backups(
        random_backups(device_ids(2), 4, 9), now_s=NOW_S + 30
    )
    assert retain(path, after_s=40, grace_s=86_400) == 0
    [ref] = before_refs(open_repository(path).git)
    plant(path, f"{ref}.lock", age_s=0)
    forget_device(path, device_ids(2)[1], now_s=NOW_S + 50)
    assert before_refs(open_repository(path).git) == []


@pytest.mark.parametrize("name", ["refs/confkeep/one", "packed-refs"])
def test_a_ref_that_is_locked_says_so(path: Path, name: str) -> None:
    main = refs.read_main(path)
    assert main is not None
    refs.create_ref(path, "refs/confkeep/one", main)
    git(path, "pack-refs", "--all")
    lock = plant(path, f"{name}.lock")
    with pytest.raises(RepositoryBusy, match=f"{name} is locked by another program"):
        refs.delete_refs(path, ["refs/confkeep/one"])
    assert git(path, "rev-parse", "refs/confkeep/one").decode().strip() == main
    lock.unlink()


@pytest.mark.parametrize("packed", ["loose", "packed", "both"])
def test_refs_are_deleted_wherever_they_are_and_no_others(path: Path, packed: str) -> None:
    main = refs.read_main(path)
    assert main is not None
    for name in ("refs/confkeep/one", "refs/confkeep/two"):
        refs.create_ref(path, name, main)
    git(path, "tag", "-a", "-m", "a tag", "kept", "main")
    if packed != "loose":
        git(path, "pack-refs", "--all", *(["--no-prune"] if packed == "both" else []))
    refs.delete_refs(path, ["refs/confkeep/one"])
    names = git(path, "for-each-ref", "--format=%(refname)").decode().split()
    assert names == ["refs/confkeep/two", "refs/heads/main", "refs/tags/kept"]
    assert git(path, "rev-parse", "kept^{commit}").decode().strip() == main
    refs.point_refs(path, {"refs/confkeep/two": None, "refs/tags/kept": main})
    assert git(path, "rev-parse", "kept").decode().strip() == main
    refs.create_ref(path, "refs/confkeep/two", main)
    git(path, "tag", "-a", "-m", "a tag", "gone", "main")
    git(path, "pack-refs", "--all")
    refs.delete_refs(path, ["refs/tags/gone"])
    assert b"^" not in (path / "packed-refs").read_bytes(), "what the tag leads to goes with it"
    assert not list(path.rglob("*.lock"))


def test_an_error_without_a_number_keeps_its_words() -> None:
    from confkeep.errors import StoreUnavailable

    with (
        pytest.raises(StoreUnavailable, match="it is locked"),
        durable.file_system_errors("a repository"),
    ):
        raise OSError("it is locked")
