"""What a batch leaves in the repository: one pack, nothing twice, and nothing else's changed."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dulwich.repo import Repo

from confkeep.errors import RepositoryDamaged, StoreUnavailable
from tests.judge import assert_sound, git
from worker.store.git import durable
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import TenantRepository, create_repository
from worker.store.writing.commit import Writer

NOW_S = 1_760_000_000
DEVICE = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def repository(store: Path) -> TenantRepository:
    return create_repository(store / f"{uuid.uuid4()}.git")


@pytest.fixture
def writer(repository: TenantRepository) -> Writer:
    return Writer(repository)


def _backup(export: bytes = b"a\n", binary: bytes | None = b"b", device: str = DEVICE) -> Backup:
    return Backup(str(uuid.uuid4()), device, export, binary, "message\n")


def _git(repository: TenantRepository, *arguments: str) -> str:
    return git(repository.path, *arguments).decode()


def _objects(repository: TenantRepository) -> int:
    lines = _git(repository, "count-objects", "-v").splitlines()
    counts = {key: int(value) for key, value in (line.split(": ") for line in lines)}
    assert counts["count"] == counts["garbage"] == 0
    return counts["in-pack"]


def _packs(repository: TenantRepository) -> list[Path]:
    return sorted((repository.path / "objects" / "pack").iterdir())


def test_a_batch_is_one_pack_that_all_tools_read(
    repository: TenantRepository, writer: Writer, tmp_path: Path
) -> None:
    devices = [str(uuid.uuid4()) for _ in range(40)]
    backups = [
        _backup(b"export %d\n" % number, bytes([number]) * 50, devices[number * 7 % 40])
        for number in range(200)
    ]
    answers = writer.commit_backups(backups, now_s=NOW_S)
    pack, idx = _packs(repository)[1], _packs(repository)[0]
    assert [idx.suffix, pack.suffix] == [".idx", ".pack"]
    assert len(_packs(repository)) == 2
    assert idx.stat().st_mode & 0o777 == pack.stat().st_mode & 0o777 == 0o400
    depths = [
        int(line.split()[5])
        for line in _git(repository, "verify-pack", "-v", str(idx)).splitlines()
        if len(line.split()) == 7
    ]
    assert max(depths) <= 8
    whole_trees = _git(repository, "verify-pack", "-v", str(idx)).count(" tree ") - len(depths)
    assert whole_trees == 1 + 200, "one root tree and the devices' folders"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--no-local", str(repository.path), str(clone))
    for backup in backups[-40:]:
        assert (clone / backup.device_id / "export.rsc").read_bytes() == backup.export
        assert (clone / backup.device_id / "backup.bin").read_bytes() == backup.binary
    with Repo(str(repository.path)) as dulwich:
        walked = [entry.commit for entry in dulwich.get_walker()]
        assert [c.id.decode() for c in reversed(walked)] == [a.sha for a in answers]
        for commit in walked[:3]:
            commit.check()
            dulwich[commit.tree].check()


def test_what_git_has_is_not_written_again(repository: TenantRepository, writer: Writer) -> None:
    first = _backup()
    writer.commit_backups([first])
    before = _objects(repository)
    # The same export, another binary: a blob, two trees and a commit.
    writer.commit_backups([_backup(binary=b"other")])
    assert _objects(repository) == before + 4
    # There and back within a batch: the second needs neither blob nor tree.
    writer.commit_backups([_backup(b"new\n", b"other"), _backup(binary=b"other")])
    assert _objects(repository) == before + 4 + 4 + 1
    # Nothing changed: a commit alone, with the parent's very tree.
    (answer,) = writer.commit_backups([_backup(binary=b"other")])
    assert _objects(repository) == before + 4 + 4 + 1 + 1
    assert answer.unchanged
    assert not answer.detail.export_changed
    assert _git(repository, "rev-parse", "main^{tree}") == _git(
        repository, "rev-parse", "main~1^{tree}"
    )
    # What comes back later is stored again at worst; git is content with that.
    writer.commit_backups([_backup(b"new\n", b"other")])
    assert_sound(repository.path)


@pytest.mark.parametrize("reopened", [False, True])
def test_a_retry_gets_the_same_answers(
    repository: TenantRepository, writer: Writer, reopened: bool
) -> None:
    backups = [_backup(b"a\nb\n"), _backup(b"a\nc\n"), _backup(b"a\nc\n")]
    answers = writer.commit_backups(backups, now_s=NOW_S)
    if reopened:
        repository = create_repository(repository.path)
    new = _backup(b"a\nc\nd\n")
    again = writer.commit_backups([backups[2], *backups, new], now_s=NOW_S + 5)
    assert again[:4] == [replace(answers[n], replayed=True) for n in (2, 0, 1, 2)]
    assert (again[4].detail.lines_added, again[4].detail.lines_removed, again[4].replayed) == (
        1,
        0,
        False,
    )
    assert _git(repository, "rev-list", "--count", "main").strip() == "4"


def test_an_id_twice_in_a_batch_is_committed_once(
    repository: TenantRepository, writer: Writer
) -> None:
    backup = _backup()
    first, second = writer.commit_backups([backup, backup])
    assert second == replace(first, replayed=True)
    assert writer.commit_backups([]) == []
    assert _git(repository, "rev-list", "--count", "main").strip() == "1"


def test_what_others_put_there_is_carried_over(
    repository: TenantRepository, writer: Writer
) -> None:
    writer.commit_backups([_backup()])
    blob = git(repository.path, "hash-object", "-w", "--stdin", stdin=b"a note").decode().strip()
    script = (
        f"commit refs/heads/main\ncommitter P <p@example.net> 1 +0000\ndata 1\nm\n"
        f"from refs/heads/main^0\n"
        f"M 100644 {blob} NOTES\nM 100755 {blob} {DEVICE}/run.sh\n"
        f"M 100644 {blob} {DEVICE}/old/export.rsc\nM 100644 {blob} {DEVICE}.txt\n\n"
    )
    git(repository.path, "fast-import", "--quiet", stdin=script.encode())
    other = str(uuid.uuid4())
    writer.commit_backups([_backup(b"new\n", None), _backup(b"x", b"", other)])
    assert _git(repository, "ls-tree", "-r", "--format=%(objectmode) %(path)", "main").split("\n")[
        :-1
    ] == sorted(
        [
            f"100644 {DEVICE}/export.rsc",
            f"100644 {DEVICE}/old/export.rsc",
            f"100755 {DEVICE}/run.sh",
            f"100644 {other}/backup.bin",
            f"100644 {other}/export.rsc",
            f"100644 {DEVICE}.txt",
            "100644 NOTES",
        ],
        key=lambda line: line[7:].encode(),
    )


def test_headers_and_dates_stand_in_the_commit(
    repository: TenantRepository, writer: Writer
) -> None:
    zone = dt.timezone(dt.timedelta(hours=-3, minutes=-30))
    captured = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=zone)
    backup = replace(_backup(b"", None), captured_at=captured, message="no newline")
    (answer,) = writer.commit_backups([backup], now_s=NOW_S)
    raw = _git(repository, "cat-file", "commit", "main")
    head, _, message = raw.partition("\n\n")
    assert head.split("\n")[1:] == [
        f"author The Other Dude <backup@tod.local> {int(captured.timestamp())} -0330",
        f"committer The Other Dude <backup@tod.local> {NOW_S} +0000",
        f"device-id {DEVICE}",
        f"backup-id {backup.backup_id}",
    ]
    assert message == "no newline"
    assert answer.committed_at == dt.datetime.fromtimestamp(NOW_S, dt.UTC)


def test_a_failed_batch_leaves_nothing_in_memory_that_a_later_one_trusts(
    repository: TenantRepository, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.commit_backups([_backup()])

    def refuse(name: str) -> None:
        if name == "pack-durable":
            raise OSError(5, "injected")

    monkeypatch.setattr(durable, "on_failpoint", refuse)
    with pytest.raises(Exception, match="input/output error"):
        writer.commit_backups([_backup(b"lost\n")])
    monkeypatch.setattr(durable, "on_failpoint", None)
    (answer,) = writer.commit_backups([_backup(b"kept\n", device=str(uuid.uuid4()))])
    assert git(repository.path, "show", f"main:{DEVICE}/export.rsc") == b"a\n"
    assert answer.sha == _git(repository, "rev-parse", "main").strip()


def test_a_missing_object_is_damage_and_changes_nothing(
    repository: TenantRepository, writer: Writer
) -> None:
    writer.commit_backups([_backup()])
    tip = _git(repository, "rev-parse", "main")
    hidden = repository.path / "hidden"
    for file in _packs(repository):
        file.rename(hidden.with_suffix(file.suffix))
    opened = create_repository(repository.path)
    with pytest.raises(RepositoryDamaged):
        Writer(opened).commit_backups([_backup(b"b\n")])
    for suffix in (".pack", ".idx"):
        hidden.with_suffix(suffix).rename(
            repository.path / "objects" / "pack" / f"pack-{'0' * 40}{suffix}"
        )
    assert _git(repository, "rev-parse", "main") == tip


def test_a_batch_costs_five_syncs(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack, its idx, their folder, the ref and its folder; what keeps git away needs none."""
    writer.commit_backups([_backup()])
    real, synced = os.fsync, list[str]()
    began: list[str] = []

    def fsync(descriptor: int) -> None:
        if not synced:
            began.extend(path.name for path in writer.repository.path.rglob("*confkeep_*"))
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    writer.commit_backups([_backup(b"b\n")])
    assert len(synced) == 5, synced
    # The disk has all files before it is waited for.
    assert len(began) == 3, began


def test_a_first_commit_passes_over_what_maintenance_removes_beside_it(
    repository: TenantRepository, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repository.path
    note, pack = path / "confkeep.repacking", path / "objects" / "pack" / "tmp_pack_git"
    lock, folder = path / "objects" / "info" / "commit-graph.lock", path / "objects" / "17"
    for file in (note, pack, lock):
        file.write_bytes(b"x")
    folder.mkdir()
    synced: list[Path] = []
    for name in ("sync_file", "sync_directory"):
        real = getattr(durable, name)

        def gone_by_now(file: Path, real: Callable[[Path], None] = real) -> None:
            # Just after it was listed.
            if file in (note, pack, lock):
                file.unlink(missing_ok=True)
            elif file == folder and folder.exists():
                folder.rmdir()
            real(file)
            synced.append(file)

        monkeypatch.setattr(durable, name, gone_by_now)
    writer.commit_backups([_backup()])
    names = {"HEAD", "config", ".", "refs", "refs/heads", "objects", "objects/pack"}
    assert {path / name for name in names} <= set(synced)
    assert path.parent in synced
    assert not {note, pack, lock, folder} & set(synced)


def test_a_first_commit_is_refused_when_head_vanishes(
    repository: TenantRepository, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable.sync_file

    def remove_head(file: Path) -> None:
        if file.name == "HEAD":
            file.unlink(missing_ok=True)
        real(file)

    monkeypatch.setattr(durable, "sync_file", remove_head)
    with pytest.raises(StoreUnavailable, match="No such file"):
        writer.commit_backups([_backup()])
    (repository.path / "HEAD").write_text("ref: refs/heads/main\n")
    assert _objects(repository) == 0


def test_a_creator_beside_another_that_names_its_repository(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store / f"{uuid.uuid4()}.git"
    real = os.listdir
    others = f".{path.name}.confkeep_0123456789abcdef"
    monkeypatch.setattr(os, "listdir", lambda name: [*real(name), *([others] * (name == store))])
    Writer(create_repository(path)).commit_backups([_backup()])


def test_what_a_dead_creator_left_goes_and_a_living_ones_stays(store: Path) -> None:
    path = store / f"{uuid.uuid4()}.git"
    living, dead = (store / f".{path.name}.confkeep_{number}" for number in range(2))
    for folder in (living, dead):
        folder.mkdir(parents=True)
    os.utime(dead, (time.time() - 3_700,) * 2)
    create_repository(path)
    assert (living.exists(), dead.exists()) == (True, False)
    living.rmdir()
