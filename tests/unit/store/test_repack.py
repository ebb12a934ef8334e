"""Repacking: small at once, nothing lost beside writers and readers, and clear about why it did not."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from confkeep.errors import (
    GitUnavailable,
    MaintenanceFailed,
    NotInStore,
    RepositoryBusy,
    RepositoryDamaged,
    StoreUnavailable,
)
from tests.bench.fleet import Fleet
from tests.damage import flip, loosen
from tests.histories import device_ids, write_linear
from tests.judge import assert_sound, git
from worker.store.git import durable, flock, git_process, refs
from worker.store.git.git_objects import GitObjects
from worker.store.git.git_process import Finished
from worker.store.history.index import open_index
from worker.store.repository import reader, recovery
from worker.store.repository.backup import Backup, Committed
from worker.store.repository.tenant_repository import (
    TenantRepository,
    create_repository,
    open_repository,
    tells_damage,
)
from worker.store.upkeep import repack_state
from worker.store.upkeep.repack import needs_repack, repack
from worker.store.upkeep.repack_state import State, read_state, why_no_full
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Kind, Outcome
from worker.store.writing import commit
from worker.store.writing.commit import Writer

DAY_S = 86_400.0


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(4)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[TenantRepository]:
    """An empty repository; git and our own verify judge it at the end."""
    path = tmp_path / "a.git"
    yield create_repository(path)
    assert_sound(path)
    report = verify_repository(path)
    assert (report.outcome, report.findings) == (Outcome.CLEAN, [])


def text_backup(fleet: Fleet) -> Backup:
    """A device's export as it changes, without a binary."""
    return dataclasses.replace(fleet.backup(fleet.device_ids[0]), binary=None)


def fill(repository: TenantRepository, fleet: Fleet, count: int) -> list[tuple[Backup, Committed]]:
    """One pack for each backup."""
    backups = [text_backup(fleet) for _ in range(count)]
    writer = Writer(repository)
    return [(backup, writer.commit_backups([backup])[0]) for backup in backups]


def files_of(path: Path) -> list[str]:
    return [file.name for file in (path / "objects").rglob("*") if file.is_file()]


def packs_of(path: Path) -> list[str]:
    return [name for name in files_of(path) if name.endswith(".pack")]


def assert_readable(path: Path, kept: list[tuple[Backup, Committed]]) -> None:
    opened = open_repository(path)
    for backup, committed in kept:
        data = reader.read_file(opened, committed.sha, backup.device_id, "export.rsc")
        assert data == backup.export


@pytest.mark.parametrize("full", [False, True])
def test_many_packs_become_few_and_small(
    full: bool, repository: TenantRepository, fleet: Fleet
) -> None:
    kept = fill(repository, fleet, 60)
    done = repack(repository.path, full=full)
    assert done.packs_before == 60
    assert done.packs_after == len(packs_of(repository.path)) <= 2
    assert done.bytes_after < done.bytes_before / 3
    assert done.full is full
    assert_readable(repository.path, kept)
    assert len(files_of(repository.path)) < 10
    with open_index(repository) as index:
        versions = index.versions(fleet.device_ids[0], tip=repository.tip())
    assert [version.sha for version in versions] == [c.sha for _, c in reversed(kept)]


def test_a_full_repack_has_good_deltas(repository: TenantRepository, fleet: Fleet) -> None:
    fill(repository, fleet, 60)
    copy = repository.path.with_name("copy.git")
    shutil.copytree(repository.path, copy)
    done = repack(repository.path, full=True)
    git(copy, "gc", "--aggressive", "--prune=now", "--quiet")
    theirs = sum(file.stat().st_size for file in (copy / "objects/pack").glob("pack-*.[pi]*"))
    assert done.bytes_after <= 1.05 * theirs


def test_loose_objects_are_taken_into_packs(repository: TenantRepository, fleet: Fleet) -> None:
    path = repository.path
    kept = fill(repository, fleet, 3)
    kept += [
        (backup, answer)
        for batch in [[text_backup(fleet) for _ in range(400)] for _ in range(2)]
        for backup, answer in zip(batch, Writer(repository).commit_backups(batch), strict=True)
    ]
    loosen(path)
    assert len(files_of(path)) > 2_000
    assert needs_repack(path, most_packs=50, most_loose=2_000)
    done = repack(path, full=False)
    assert done.loose_before > 2_000
    assert len(files_of(path)) < 10
    assert not needs_repack(path, most_packs=50, most_loose=2_000)
    assert_readable(path, kept[::50])


def test_what_needs_a_repack(repository: TenantRepository, fleet: Fleet, tmp_path: Path) -> None:
    fill(repository, fleet, 5)
    assert needs_repack(repository.path, most_packs=4, most_loose=1)
    assert not needs_repack(repository.path, most_packs=5, most_loose=1)
    assert not needs_repack(tmp_path / "none.git", most_packs=0, most_loose=0)
    with pytest.raises(NotInStore):
        repack(tmp_path / "none.git")


@pytest.mark.parametrize("full", [False, True])
def test_a_pack_that_main_does_not_reach_yet_stays(
    full: bool,
    repository: TenantRepository,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(repository, fleet, 20)
    late, real = text_backup(fleet), refs.move_main

    def repack_first(path: Path, expected: str | None, target: str, value: refs.Value) -> None:
        repack(path, full=full)
        repack(path, full=full)
        real(path, expected, target, value)

    monkeypatch.setattr(refs, "move_main", repack_first)
    kept = Writer(repository).commit_backups([late])
    monkeypatch.undo()
    assert_sound(repository.path)
    assert_readable(repository.path, [(late, kept[0])])
    repack(repository.path, full=True)
    assert len(packs_of(repository.path)) == 1


def test_what_no_ref_reaches_stays_in_one_pack_beside_the_full_one(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, fleet, 3)

    def busy(path: Path, expected: str | None, target: str, value: refs.Value) -> None:
        raise RepositoryBusy("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(refs, "move_main", busy)
        for _ in range(3):
            with pytest.raises(RepositoryBusy):
                Writer(repository).commit_backups([text_backup(fleet)])
    lost = sorted(git(repository.path, "fsck", "--unreachable", "--no-progress").split())
    assert lost.count(b"commit") == 3
    repack(repository.path, full=False)
    repack(repository.path, full=True)
    assert len(packs_of(repository.path)) == 2
    assert sorted(git(repository.path, "fsck", "--unreachable", "--no-progress").split()) == lost


def test_the_note_of_a_repack_goes_when_what_it_names_cannot_come_back(
    repository: TenantRepository,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(repository, fleet, 3)
    path, folder = repository.path, repository.path / "objects" / "pack"
    durable.replace_file(path / recovery.REPACKING_NAME, b"")
    (folder / "tmp_pack_x").touch()
    steps: list[str] = []
    sync, remove = durable.sync_directory, durable.remove

    def synced(what: Path) -> None:
        sync(what)
        steps.append(f"sync {what.name}")

    def removed(what: Path) -> None:
        remove(what)
        steps.append(f"remove {what.name}")

    monkeypatch.setattr(durable, "sync_directory", synced)
    monkeypatch.setattr(durable, "remove", removed)
    recovery.remove_repack_leftovers(path)
    assert steps == ["remove tmp_pack_x", "sync pack", f"remove {recovery.REPACKING_NAME}"]


def test_a_pack_that_somebody_keeps_stays(repository: TenantRepository, fleet: Fleet) -> None:
    fill(repository, fleet, 3)
    name = packs_of(repository.path)[0].removesuffix(".pack")
    (repository.path / f"objects/pack/{name}.keep").touch()
    repack(repository.path, full=True)
    assert f"{name}.pack" in packs_of(repository.path)


_BESIDE = """
import sys
from pathlib import Path
from typing import Any
from tests.bench.fleet import Fleet
from confkeep.errors import RepositoryBusy
from worker.store.repository import reader
from worker.store.writing.commit import Writer
from worker.store.writing.commit import open_for_writing
fleet, kept = Fleet(4, seed=int(sys.argv[2])), []
with open_for_writing(Path(sys.argv[1])) as writer:
    while len(kept) < 150:
        backup = fleet.batch(1)[0]
        try:
            kept.append((backup, writer.commit_backups([backup])[0].sha))
        except RepositoryBusy:
            continue
        for backup, sha in kept[:: max(1, len(kept) // 5)]:
            data = reader.read_file(writer.repository, sha, backup.device_id, "export.rsc")
            assert data == backup.export
        found = writer.find_committed({b.backup_id: b.device_id for b, _ in kept[-2:]})
        assert len(found) == len(kept[-2:])
"""


def test_repositories_that_stay_open_survive_repacks(tmp_path: Path) -> None:
    # In processes of their own: libgit2 keeps packs in memory by path, which would hide a lost one.
    path = tmp_path / "a.git"
    create_repository(path)
    others = [
        subprocess.Popen(
            [sys.executable, "-c", _BESIDE, str(path), str(seed)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(2)
    ]
    repacks = 0
    while any(other.poll() is None for other in others):
        repack(path, full=repacks % 3 == 2)
        repacks += 1
    for other in others:
        _out, err = other.communicate(timeout=30)
        assert other.returncode == 0, err
    assert repacks >= 3
    assert git(path, "rev-list", "--count", "main") == b"300\n"
    assert_sound(path)
    assert verify_repository(path).outcome == Outcome.CLEAN


def test_a_read_whose_pack_went_is_no_damage(repository: TenantRepository) -> None:
    gone, there = repository.path / "pack-gone.pack", repository.path / "HEAD.pack"
    there.touch()
    tries: list[Path] = []

    @tells_damage
    def read(_repository: TenantRepository, pack: Path, times: int) -> int:
        tries.append(pack)
        if len(tries) <= times:
            # As libgit2 says it.
            raise OSError(f"6219: invalid packfile '{pack}': ")
        return len(tries)

    assert read(repository, gone, 2) == 3
    for pack, times, most in ((there, 1, 1), (gone, 100, 10)):
        tries.clear()
        with pytest.raises(RepositoryDamaged, match="invalid packfile"):
            read(repository, pack, times)
        assert len(tries) <= most


def test_a_replay_is_found_while_packs_go(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fill(repository, fleet, 5)
    real, tries = commit._sync_packs_with, []

    def one_went(folder: Path, wanted: list[bytes]) -> bool:
        tries.append(folder)
        return real(folder, wanted) and len(tries) == 2

    monkeypatch.setattr(commit, "_sync_packs_with", one_went)
    assert Writer(repository).commit_backups([kept[2][0]])[0].replayed
    assert len(tries) == 2


def test_too_little_space_is_said_and_changes_nothing(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, fleet, 5)
    before = sorted(files_of(repository.path))
    monkeypatch.setattr(repack_state, "free_bytes", lambda _path: 1 << 20)
    for full in (False, True):
        with pytest.raises(StoreUnavailable, match=r"64 MiB of free space.*there are 1 MiB"):
            repack(repository.path, full=full)
    assert sorted(files_of(repository.path)) == before
    assert "free space" in read_state(repository.path).skipped
    monkeypatch.undo()
    repack(repository.path)
    assert read_state(repository.path).skipped == ""


def test_where_only_the_full_one_has_no_space_the_small_one_runs(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, fleet, 5)
    repack(repository.path, full=True)
    fill(repository, fleet, 3)
    size = sum(f.stat().st_size for f in (repository.path / "objects/pack").iterdir())
    monkeypatch.setattr(repack_state, "why_no_full", lambda *_: None)
    monkeypatch.setattr(repack_state, "free_bytes", lambda _path: (64 << 20) + size - 1_000)
    done = repack(repository.path)
    assert not done.full
    assert "free space" in read_state(repository.path).skipped


def test_without_git_everything_else_works(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    fill(repository, fleet, 2)
    assert git_process.git_problem() == "there is no git on PATH: repositories are not repacked"
    with pytest.raises(GitUnavailable):
        repack(repository.path)
    assert "no git" in read_state(repository.path).skipped
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert "2.30 is older than 2.36" in (git_process.git_problem() or "")
    monkeypatch.undo()
    assert git_process.git_problem() is None


def test_repair_drops_a_damaged_pack_whose_objects_are_sound_elsewhere(
    repository: TenantRepository, fleet: Fleet
) -> None:
    path = repository.path
    fill(repository, fleet, 3)
    (pack, *_) = (path / "objects" / "pack").glob("*.pack")
    git(path, "pack-objects", "--all", "-q", str(path / "objects" / "pack" / "pack"))
    flip(pack)
    report = verify_repository(path)
    assert {found.kind for found in report.findings} == {Kind.PACK}

    done = repair_repository(report)

    assert (done.mended, done.left) == (report.findings, [])
    assert not pack.exists()


def test_repair_leaves_a_damaged_pack_with_the_only_copy(tmp_path: Path, fleet: Fleet) -> None:
    repository = create_repository(tmp_path / "a.git")
    fill(repository, fleet, 1)
    (pack,) = (repository.path / "objects" / "pack").glob("*.pack")
    flip(pack)
    damaged = pack.read_bytes()
    report = verify_repository(repository.path)

    done = repair_repository(report)

    assert done.mended == []
    assert Kind.PACK in {found.kind for found in done.left}
    assert pack.read_bytes() == damaged


def test_a_git_that_finds_the_disk_full_is_no_damage(
    repository: TenantRepository, fleet: Fleet
) -> None:
    fill(repository, fleet, 1)
    git = git_process.Git(repository.path, None, time.monotonic() + 60)
    with (
        pytest.raises(StoreUnavailable, match="no space left") as caught,
        durable.file_system_errors("a.git"),
    ):
        git.run("archive", "--output=/dev/full", refs.MAIN_REF)
    assert str(caught.value) == "a.git: no space left on the device"
    assert caught.value.hint == "Free space on the disk of a.git."


def test_a_git_that_did_not_run_once_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker goes on repacking after its machine was short of memory for a moment."""
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nkill -9 $$\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    assert "does not run" in (git_process.git_problem() or "")
    git.write_text("#!/bin/sh\necho git version 2.40.0\n")
    assert git_process.git_problem() is None


def test_one_at_a_time(repository: TenantRepository, fleet: Fleet) -> None:
    fill(repository, fleet, 1)
    with flock.maintenance(repository.path) as held:
        assert held is not None
        with pytest.raises(RepositoryBusy):
            repack(repository.path)
        # Beside a repack of any length there is a verdict; what it is at is no leftover.
        durable.replace_file(repository.path / recovery.REPACKING_NAME, b"")
        report = verify_repository(repository.path, lock_wait_s=0.05)
        assert (report.outcome, report.findings) == (Outcome.CLEAN, [])
        (repository.path / recovery.REPACKING_NAME).unlink()
    with flock.no_maintenance(repository.path), pytest.raises(RepositoryBusy):
        repack(repository.path)


def test_damage_is_told_beside_a_repack_too(repository: TenantRepository, fleet: Fleet) -> None:
    fill(repository, fleet, 2)
    (repository.path / "objects/info/commit-graph").write_bytes(b"x" * 40)
    with flock.maintenance(repository.path):
        report = verify_repository(repository.path, lock_wait_s=0.05)
        assert [finding.kind for finding in report.findings] == [Kind.HELPER]
    (repository.path / "objects/info/commit-graph").unlink()


def test_verify_follows_packs_that_go(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, fleet, 10)
    real, times = GitObjects.fsck, list[int]()

    def repacked_meanwhile(objects: GitObjects, *tips: Any, **how: Any) -> Finished:
        times.append(len(times))
        if len(times) > 2:
            return real(objects, *tips, **how)
        # Git has listed packs that go before it opens them.
        (pack,) = sorted((repository.path / "objects/pack").glob("*.pack"))[:1]
        kept = pack.read_bytes()
        pack.write_bytes(kept[:100])
        try:
            return real(objects, *tips, **how)
        finally:
            pack.write_bytes(kept)
            fill(repository, fleet, 3)
            git(repository.path, "repack", "-adq")

    monkeypatch.setattr(GitObjects, "fsck", repacked_meanwhile)
    report = verify_repository(repository.path)
    assert (report.outcome, report.findings) == (Outcome.CLEAN, [])
    assert len(times) == 3
    assert report.commits == 16
    assert len(packs_of(repository.path)) == 1


def test_verify_follows_loose_objects_into_packs(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repository.path
    fill(repository, fleet, 5)
    loosen(path)
    real = GitObjects.ids

    def packed_then(objects: GitObjects) -> list[bytes]:
        ids = real(objects)
        git(path, "repack", "-adq")
        return ids

    monkeypatch.setattr(GitObjects, "ids", packed_then)
    report = verify_repository(path)
    assert (report.outcome, report.findings) == (Outcome.CLEAN, [])
    assert not list((path / "objects").glob("[0-9a-f][0-9a-f]/*"))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_what_a_git_repack_has_just_made_stays(
    first: bool, full: bool, repository: TenantRepository, fleet: Fleet
) -> None:
    """Between its new pack and the removal of the old one, which holds the same, we repack."""
    path, folder = repository.path, repository.path / "objects" / "pack"
    kept = fill(repository, fleet, 6)
    repack(path, full=True)
    # Which of two packs of the same size would go depends on their names.
    old = folder / f"pack-{'0' if first else 'f'}{'7' * 39}.pack"
    for suffix in (".pack", ".idx"):
        next(folder.glob(f"*{suffix}")).rename(old.with_suffix(suffix))
    contents = {file: file.read_bytes() for file in (old, old.with_suffix(".idx"))}
    git(path, "repack", "-adfq", "--depth=0")
    assert not old.exists()
    for file, data in contents.items():
        file.write_bytes(data)
    repack(path, full=full)
    # The repack of git's goes on, and removes what it found when it began.
    for file in contents:
        file.unlink(missing_ok=True)
    (folder / "multi-pack-index").unlink(missing_ok=True)
    assert_sound(path)
    assert_readable(path, kept)


def test_a_note_does_not_remove_what_is_nowhere_else(
    repository: TenantRepository, fleet: Fleet
) -> None:
    """A repack was killed; git made one pack of all since, of the bytes of one that was to go."""
    path = repository.path
    kept = fill(repository, fleet, 3)
    git(path, "repack", "-adq")
    (name,) = packs_of(path)
    durable.replace_file(path / recovery.REPACKING_NAME, f"{name[:-5]}\n".encode())
    create_repository(path)
    assert packs_of(path) == [name]
    assert not (path / recovery.REPACKING_NAME).exists()
    assert_readable(path, kept)


def test_a_git_that_takes_too_long_is_ended_with_all_it_began(
    repository: TenantRepository,
    fleet: Fleet,
    fake_git: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fill(repository, fleet, 3)
    before = sorted(files_of(repository.path))
    # It leaves a temporary file, starts another process, and never ends.
    fake_git(
        "touch objects/pack/tmp_pack_x objects/pack/multi-pack-index.lock\n"
        f"sleep 300 & echo $! > {tmp_path}/pid\nwait"
    )
    monkeypatch.setattr("worker.store.upkeep.repack._TIMEOUT_S", 1)
    with pytest.raises(MaintenanceFailed, match="took too long"):
        repack(repository.path)
    monkeypatch.undo()
    assert sorted(files_of(repository.path)) == before
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or child.read_text().split()[2] == "Z"
    assert "took too long" in read_state(repository.path).skipped


def test_a_failing_git_is_quoted(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, fleet, 1)
    with (
        flock.maintenance(repository.path) as held,
        pytest.raises(MaintenanceFailed, match="nonsense"),
    ):
        assert held is not None
        git_process.Git(repository.path, held, time.monotonic() + 10).run("nonsense")


def test_what_a_killed_repack_left_goes_with_its_note(
    repository: TenantRepository, fleet: Fleet
) -> None:
    path = repository.path
    kept = fill(repository, fleet, 3)
    folder = path / "objects" / "pack"
    others = folder / "tmp_pack_somebodys"
    others.touch()
    os.utime(others, (1_000_000_000, 1_000_000_000))
    durable.replace_file(path / recovery.REPACKING_NAME, b"")
    mine = [folder / "tmp_pack_x", folder / ".tmp-1-pack-a.idx", folder / "multi-pack-index.lock"]
    for file in mine:
        file.touch()
    report = verify_repository(path)
    assert {finding.place for finding in report.findings} == {
        recovery.REPACKING_NAME,
        *(file.relative_to(path).as_posix() for file in mine),
    }
    with flock.maintenance(path):
        create_repository(path)
        assert all(file.exists() for file in mine), "their repack lives"
    create_repository(path)
    assert not any(file.exists() for file in mine)
    assert others.exists()
    others.unlink()
    assert not (path / recovery.REPACKING_NAME).exists()
    assert_readable(path, kept)


def test_a_removal_that_a_kill_cut_short_is_gone_on_with(
    repository: TenantRepository, fleet: Fleet
) -> None:
    kept = fill(repository, fleet, 2)
    path, folder = repository.path, repository.path / "objects" / "pack"
    there = packs_of(path)
    begun = f"pack-{'0' * 40}"
    # Of a pack the idx goes first.
    shutil.copy(folder / there[0], folder / f"{begun}.pack")
    durable.replace_file(path / recovery.REPACKING_NAME, f"{begun}\n".encode())
    create_repository(path)
    assert packs_of(path) == there
    assert_readable(path, kept)


def test_what_a_git_that_lives_writes_stays_when_a_killed_repacks_goes(
    repository: TenantRepository, fleet: Fleet
) -> None:
    fill(repository, fleet, 2)
    path, writing = repository.path, repository.path / "objects" / "pack" / "tmp_pack_x"
    durable.replace_file(path / recovery.REPACKING_NAME, b"")
    writing.touch()
    command = ["git", "-C", str(path), "update-ref", "--stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"start\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"start: ok\n"
        create_repository(path)
        assert writing.exists()
        other.stdin.close()
    writing.unlink()


@pytest.mark.parametrize(
    ("state", "size", "pays"),
    [
        (State(), 10 << 20, True),
        (State(), 1 << 20, False),
        # Within a week nothing pays.
        (State(full_at=-6 * DAY_S, full_bytes=1 << 20), 100 << 20, False),
        (State(full_at=-8 * DAY_S, full_bytes=1 << 20), 100 << 20, True),
        # Too little was added.
        (State(full_at=-8 * DAY_S, full_bytes=100 << 20), 105 << 20, False),
        (State(full_at=-8 * DAY_S, full_bytes=100 << 20), 150 << 20, True),
        # What was added does not shrink, as the last time showed, until it has doubled.
        (State(full_at=-8 * DAY_S, full_bytes=100 << 20, ratio=0.95), 190 << 20, False),
        (State(full_at=-8 * DAY_S, full_bytes=100 << 20, ratio=0.95), 201 << 20, True),
    ],
)
def test_when_a_full_repack_pays(state: State, size: int, pays: bool) -> None:
    now = 1_000 * DAY_S
    state = dataclasses.replace(state, full_at=state.full_at + (now if state.full_at else 0))
    assert (why_no_full(state, size, now) is None) is pays


def test_the_first_full_one_shows_what_the_next_would_save(
    repository: TenantRepository, fleet: Fleet
) -> None:
    fill(repository, fleet, 20)
    done = repack(repository.path, full=True)
    state = read_state(repository.path)
    assert state.full_bytes == done.bytes_after
    assert state.ratio == pytest.approx(done.bytes_after / done.bytes_before)
    assert repack(repository.path).no_full == (
        "the last full repack was 0.0 days ago, at most one a week"
    )


def test_what_writers_add_beside_a_full_repack_counts_as_added_after_it(
    repository: TenantRepository, fleet: Fleet
) -> None:
    fill(repository, fleet, 2)
    added: list[tuple[Backup, Committed]] = []

    def write(name: str) -> None:
        if name == "repack-reachable":
            durable.on_failpoint = None
            added.extend(fill(repository, fleet, 1))

    durable.on_failpoint = write
    try:
        repack(repository.path, full=True)
    finally:
        durable.on_failpoint = None
    assert added
    folder = repository.path / "objects" / "pack"
    *_rest, youngest = sorted(folder.glob("*.pack"), key=lambda pack: pack.stat().st_mtime_ns)
    every = sum(file.stat().st_size for file in folder.glob("pack-*.[pi][ad][cx]*"))
    own = sum(youngest.with_suffix(kind).stat().st_size for kind in (".pack", ".idx"))
    assert read_state(repository.path).full_bytes == every - own


def test_a_state_that_makes_no_sense_is_as_none(repository: TenantRepository) -> None:
    for text in ("", "[]", "{", '{"repacked_at": null}'):
        (repository.path / repack_state.STATE_NAME).write_text(text)
        assert read_state(repository.path) == State()


def test_progress_is_told(repository: TenantRepository, fleet: Fleet) -> None:
    fill(repository, fleet, 10)
    said: list[tuple[str, int, int]] = []
    repack(repository.path, full=True, progress=lambda *step: said.append(step))
    assert {what for what, _done, _total in said} >= {"Counting objects", "Writing objects"}
    assert said[-1][1] == said[-1][2] > 0


def test_a_geometric_repack_leaves_the_old_history_alone(
    repository: TenantRepository, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the old pack nor the old commit-graph is written again, and no walk goes down there."""
    path = repository.path
    kept = fill(repository, fleet, 60)
    repack(path, full=False)
    old = {file: file.stat().st_ino for file in (path / "objects").rglob("*-*")}
    edge = repository.tip()
    kept += fill(repository, fleet, 5)
    noted: list[str] = []
    monkeypatch.setattr(
        durable,
        "on_failpoint",
        lambda name: (
            noted.append((path / recovery.REPACKING_NAME).read_text())
            if name == "repack-written"
            else None
        ),
    )
    done = repack(path, full=False)
    assert (done.packs_before, done.packs_after) == (6, 2)
    assert noted == [f"{edge}\n"]
    assert {file: file.stat().st_ino for file in old} == old
    assert any(file.name == "commit-graph" for file in old)
    assert_readable(path, kept)


def test_the_commit_graph_is_written_when_the_history_has_grown_by_a_quarter(
    repository: TenantRepository, fleet: Fleet
) -> None:
    graph, writer = repository.path / "objects/info/commit-graph", Writer(repository)

    def commits_in_graph(new: int, *, full: bool = False) -> int:
        for backup in fleet.batch(new):
            # Its binary is most of it, so that bytes grow as commits do.
            writer.commit_backups([backup])
        repack(repository.path, full=full)
        return _commits_in(graph)

    assert commits_in_graph(20) == 20
    assert commits_in_graph(2) == 20
    assert commits_in_graph(2) == 20
    assert commits_in_graph(4) == 28
    graph.unlink()
    assert commits_in_graph(1) == 29
    assert commits_in_graph(1, full=True) == 30


def _commits_in(graph: Path) -> int:
    """How many commits a commit-graph has: the last number of its fanout."""
    data = graph.read_bytes()
    chunks = {data[at : at + 4]: data[at + 4 : at + 12] for at in range(8, 8 + 12 * data[6], 12)}
    fanout = int.from_bytes(chunks[b"OIDF"])
    return int.from_bytes(data[fanout + 1020 : fanout + 1024])


@pytest.mark.parametrize("size", [0, 7, 1031])
def test_a_cut_idx_ends_a_repack_and_can_be_mended_after_it(store: Path, size: int) -> None:
    """A repack that failed so left a note, over which every later verification and repair failed too."""
    path = store / "cut.git"
    write_linear(path, device_ids(3), 40)
    known = git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    [idx] = (path / "objects" / "pack").glob("*.idx")
    idx.chmod(0o600)
    idx.write_bytes(idx.read_bytes()[:size])
    for full in (None, True):
        with pytest.raises((MaintenanceFailed, RepositoryDamaged)):
            repack(path, full=full)
    assert repair_repository(verify_repository(path)).mended
    assert verify_repository(path).outcome == Outcome.CLEAN
    assert git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)") == known
