"""Who may move `main`, what others do at that very moment, and what an unknown outcome becomes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from confkeep.errors import RepositoryBusy, StoreUnavailable
from tests.histories import device_ids, random_backups
from tests.judge import git
from worker.store.git import durable, refs
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.upkeep.repack import repack
from worker.store.writing.commit import Writer

MAIN = "refs/heads/main"


def backups(seed: int) -> list[Backup]:
    return random_backups(device_ids(2), 2, seed)


def written(path: Path, *seeds: int) -> list[str]:
    """A batch for each seed; the tip after each."""
    writer = Writer(create_repository(path))
    return [writer.commit_backups(backups(seed))[-1].sha for seed in seeds]


def main_of(path: Path) -> str:
    return git(path, "rev-parse", MAIN).decode().strip()


def before(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, do: Callable[[], object]
) -> None:
    """Let something happen once, just before a function is called."""
    real, left = getattr(where, name), [do]

    def call(*arguments: Any, **options: Any) -> Any:
        if left:
            left.pop()()
        return real(*arguments, **options)

    monkeypatch.setattr(where, name, call)


def after(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, do: Callable[[], object]) -> None:
    """Let something happen each time a function has returned."""
    real = getattr(where, name)

    def call(*arguments: Any, **options: Any) -> Any:
        answer = real(*arguments, **options)
        do()
        return answer

    monkeypatch.setattr(where, name, call)


def test_what_becomes_loose_between_the_two_looks_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`main` was packed; somebody deletes it there and makes it anew, loose, while we read."""
    [old, new] = written(path, 1, 2)
    git(path, "update-ref", MAIN, old)
    git(path, "pack-refs", "--all", "--prune")

    def made_anew() -> None:
        git(path, "update-ref", "-d", MAIN)
        git(path, "update-ref", MAIN, new)

    before(monkeypatch, refs, "_read_packed", made_anew)
    assert refs.read_main(path) == new == main_of(path)


def test_who_is_overtaken_at_the_lock_moves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old, others] = written(path, 1, 2)
    git(path, "update-ref", MAIN, old)
    before(monkeypatch, durable, "link", lambda: git(path, "update-ref", MAIN, others))
    with pytest.raises(RepositoryBusy, match="moved by another writer"):
        Writer(create_repository(path)).commit_backups(backups(3))
    assert main_of(path) == others
    assert not list(path.rglob("*.lock"))


def test_the_lock_of_who_comes_next_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the rename the lock's name is free, and may be another writer's at once."""
    [old, target] = written(path, 1, 2)
    git(path, "update-ref", MAIN, old)
    lock = path / f"{MAIN}.lock"
    after(monkeypatch, durable, "rename", lambda: lock.write_text("another writer's"))
    refs.move_main(path, old, target)
    assert (main_of(path), lock.read_text()) == (target, "another writer's")
    lock.unlink()


def test_a_main_that_was_moved_is_not_deleted(path: Path) -> None:
    [old, new] = written(path, 1, 2)
    with pytest.raises(RepositoryBusy, match="moved by another writer"):
        refs.delete_main(path, old)
    assert main_of(path) == new
    assert not list(path.rglob("*.lock"))


def test_no_older_value_appears_while_main_is_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [old, new] = written(path, 1, 2)
    git(path, "update-ref", MAIN, old)
    git(path, "pack-refs", "--all", "--prune")
    git(path, "update-ref", MAIN, new)
    seen: list[str | None] = []
    for name in ("remove", "rename", "link"):
        after(monkeypatch, durable, name, lambda: seen.append(refs.read_main(path)))
    refs.delete_main(path, new)
    git(path, "update-ref", MAIN, new)
    assert seen[-1] is None
    assert old not in seen


def synced_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and folders that are synced from now on."""
    real, found = os.fsync, list[str]()

    def fsync(descriptor: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.mark.parametrize("moved", [False, True])
def test_an_error_of_the_last_step_says_what_main_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    """The file system refuses: if `main` moved all the same, the batch is committed, and durable."""
    [old] = written(path, 1)
    writer = Writer(create_repository(path))
    rename, synced = durable.rename, synced_by(monkeypatch)

    def refuse(source: Path, target: Path) -> None:
        if target.name == "main":
            if moved:
                rename(source, target)
            synced.clear()
            raise OSError(errno.EIO, "injected")
        rename(source, target)

    monkeypatch.setattr(durable, "rename", refuse)
    if not moved:
        with pytest.raises(StoreUnavailable, match="input/output error"):
            writer.commit_backups(backups(2))
        assert main_of(path) == old
        return
    answers = writer.commit_backups(backups(2))
    assert main_of(path) == answers[-1].sha
    assert_durable(path, synced)


def assert_durable(path: Path, synced: list[str]) -> None:
    """The packs of the newest commits, their folder, and the ref with its folder and the one above."""
    names = {os.path.relpath(name, path) for name in synced}
    assert {MAIN, "refs/heads", ".", "objects/pack"} <= names
    assert any(name.endswith(".pack") for name in names)
    assert any(name.endswith(".idx") for name in names)


def test_a_replay_is_durable_before_it_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it may have been killed before the last sync."""
    written(path, 1)
    asked = {backup.backup_id: backup.device_id for backup in backups(1)}
    writer = Writer(create_repository(path))
    with monkeypatch.context() as patch:
        synced = synced_by(patch)
        assert len(writer.find_committed(asked)) == 2
        assert_durable(path, synced)
    with monkeypatch.context() as patch:
        synced = synced_by(patch)
        assert all(answer.replayed for answer in writer.commit_backups(backups(1)))
        assert_durable(path, synced)
    git(path, "pack-refs", "--all", "--prune")
    with monkeypatch.context() as patch:
        synced = synced_by(patch)
        writer.find_committed(asked)
        assert str(path / "packed-refs") in synced


def test_a_replay_is_durable_although_a_repack_removes_its_pack(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objects are in a pack that is newer than the list of packs that was read."""
    written(path, 1, 2, 3)
    asked = {backup.backup_id: backup.device_id for backup in backups(1)}
    writer = Writer(create_repository(path))
    # What was read of the packs so far must not name them.
    writer.find_committed(asked)
    listdir, left = os.listdir, [True]

    def stale(where: Any = ".") -> list[str]:
        names = listdir(where)
        if where == path / "objects" / "pack" and left:
            left.clear()
            repack(path, full=True)
        return names

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", stale)
        synced = synced_by(patch)
        writer.find_committed(asked)
    assert not left
    [pack] = (path / "objects" / "pack").glob("*.pack")
    assert {str(pack), str(pack.with_suffix(".idx"))} <= set(synced)


def test_no_idx_is_ever_there_without_its_pack(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers find a pack by its idx."""
    folder = path / "objects" / "pack"
    torn: list[str] = []

    def look() -> None:
        names = set(os.listdir(folder)) if folder.exists() else set()
        torn.extend(
            name
            for name in names
            if name.startswith("pack-") and name.endswith(".idx")
            if f"{name.removesuffix('.idx')}.pack" not in names
        )

    for name in ("rename", "remove", "sync_directory"):
        after(monkeypatch, durable, name, look)
    written(path, 1, 2)
    repack(path, full=True)
    assert torn == []
