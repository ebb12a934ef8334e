"""Erasing a device leaves nothing of it, also when it is killed on the way, and the rest as it was."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from confkeep.errors import ErasureIncomplete, NotInStore, RemovedByRetention
from confkeep.labels import Labels
from tests.failpoints import killed_at
from tests.histories import Stream, device_ids, ids_of_main, random_backups, write_merged
from tests.judge import assert_sound, backup_ids, git
from tests.unit.store.conftest import TENANT
from worker.store.git import durable
from worker.store.history.index import INDEX_NAME, open_index
from worker.store.repository import id_map, recovery
from worker.store.repository.backup import EXPORT_NAME, Backup, Naming
from worker.store.repository.reader import devices_of, find_commit, read_file
from worker.store.repository.tenant_repository import create_repository, open_repository, tenants_of
from worker.store.rewriting.forget import forget_device, forget_tenant, traces_of_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.writing.commit import Writer

NOW_S = 1_760_000_000
DEVICES = device_ids(3)
GONE = DEVICES[1]
#: The tables of the index that name devices.
TABLES = ("devices", "versions", "labels", "own_names")
SECRET = b"# only its own\nadd name=f0cbd6\n"


def fill(path: Path, *, seed: int = 3, count: int = 30) -> dict[str, tuple[Backup, str]]:
    backups = random_backups(DEVICES, count, seed)
    backups.append(Backup(str(backups[0].backup_id)[:-1] + "0", GONE, SECRET, b"\1", "its last"))
    answers = Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)
    return {b.backup_id: (b, a.sha) for b, a in zip(backups, answers, strict=True)}


def merge(path: Path) -> None:
    """Let `main` be a merge with a commit that it has, as other programs write them."""
    made = git(path, "commit-tree", "-p", "main", "-p", "main~5", "-m", "merge", "main^{tree}")
    git(path, "update-ref", "refs/heads/main", made.decode().strip())


def raw_bytes(path: Path) -> bytes:
    objects = git(path, "cat-file", "--batch-all-objects", "--batch")
    files = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
    return objects + b"".join(files)


def assert_gone(path: Path, filled: dict[str, tuple[Backup, str]]) -> None:
    found = raw_bytes(path)
    assert GONE.encode() not in found
    assert bytes.fromhex(GONE.replace("-", "")) not in found
    assert b"f0cbd6" not in found
    assert traces_of_device(path, GONE) == []
    assert_sound(path)
    repository = open_repository(path)
    for backup, sha in filled.values():
        if backup.device_id != GONE:
            assert read_file(repository, sha, backup.device_id, EXPORT_NAME) == backup.export
        else:
            with pytest.raises((RemovedByRetention, NotInStore)):
                read_file(repository, sha, backup.device_id, EXPORT_NAME)


def test_nothing_of_a_device_is_left(path: Path) -> None:
    filled = fill(path)
    assert GONE.encode() in raw_bytes(path)
    forgotten = forget_device(path, GONE, now_s=NOW_S + 1)
    own = [id_ for id_, (backup, _sha) in filled.items() if backup.device_id == GONE]
    assert forgotten.backup_ids == own
    assert_gone(path, filled)
    repository = open_repository(path)
    assert devices_of(repository) == sorted(set(DEVICES) - {GONE})
    with open_index(repository) as index:
        assert index.is_complete(repository.tip())
        assert index.versions(GONE, tip=repository.tip()) == []
    # The same backups once more: none is committed again, the forgotten ones neither.
    again = [backup for backup, _sha in filled.values()]
    assert all(a.replayed for a in Writer(create_repository(path)).commit_backups(again))
    assert backup_ids(path) == [id_ for id_ in filled if id_ not in own]
    assert_gone(path, filled)


def put_back_loose(path: Path, _before: Path) -> None:
    git(path, "hash-object", "-w", "--stdin", stdin=SECRET)


def put_back_packed(path: Path, before: Path) -> None:
    for file in (before / "objects" / "pack").glob("pack-*"):
        shutil.copy(file, path / "objects" / "pack")


def put_back(name: str) -> Callable[[Path, Path], None]:
    def put(path: Path, before: Path) -> None:
        shutil.copy(before / name, path / name)

    return put


def put_back_logs(path: Path, before: Path) -> None:
    shutil.copytree(before / "logs", path / "logs")


def put_back_map(path: Path, before: Path) -> None:
    [kept] = before.glob(f"{id_map.BEFORE_PREFIX}*")
    shutil.copy(kept, path)


def put_back_row(table: str) -> Callable[[Path, Path], None]:
    """The rows that name the device in this table of the index alone."""

    def put(path: Path, before: Path) -> None:
        shutil.copy(before / INDEX_NAME, path / INDEX_NAME)
        with closing(sqlite3.connect(path / INDEX_NAME)) as db, db:
            for other in set(TABLES) - {table}:
                db.execute(f"DELETE FROM {other} WHERE device=?", (uuid.UUID(GONE).bytes,))

    return put


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (put_back_loose, "is there, loose"),
        (put_back_packed, "is there, and no ref reaches it"),
        (put_back("ORIG_HEAD"), "ORIG_HEAD is there"),
        (put_back("FETCH_HEAD"), "FETCH_HEAD is there"),
        (put_back_logs, "logs is there"),
        (put_back(id_map.FILE_NAME), f"{id_map.FILE_NAME} names it"),
        (put_back_map, f"{id_map.BEFORE_PREFIX}.* is there"),
        *((put_back_row(name), f"{INDEX_NAME} names it") for name in TABLES),
    ],
)
def test_the_proof_finds_whatever_is_left(
    path: Path, tmp_path: Path, put: Callable[[Path, Path], None], told: str
) -> None:
    before = tmp_path / "before"
    fill(path)
    now_s = NOW_S + 1
    apply_retention(
        create_repository(path), policy_of({"keep_last": 1}), now_s=now_s, grace_s=86_400
    )
    named = Naming(str(uuid.uuid4()), GONE, Labels("core1"), "m")
    Writer(create_repository(path)).commit_backups([named])
    (path / "logs").mkdir(exist_ok=True)
    for name in ("ORIG_HEAD", "FETCH_HEAD", "logs/HEAD"):
        (path / name).write_bytes(git(path, "rev-parse", "main"))
    shutil.copytree(path, before, symlinks=True)
    forget_device(path, GONE, now_s=now_s)
    assert traces_of_device(path, GONE) == []
    sound = tmp_path / "sound"
    shutil.copytree(path, sound, symlinks=True)
    put(path, before)
    found = traces_of_device(path, GONE)
    assert any(re.search(told, line) for line in found), found
    shutil.rmtree(path)
    sound.rename(path)


def test_what_a_killed_repack_left_goes_too(path: Path) -> None:
    filled = fill(path)
    folder = path / "objects" / "pack"
    [pack] = folder.glob("*.pack")
    durable.replace_file(path / recovery.REPACKING_NAME, b"")
    shutil.copy(pack, folder / ".tmp-1-pack-x.pack")
    os.utime(folder / ".tmp-1-pack-x.pack")
    forget_device(path, GONE, now_s=NOW_S)
    assert_gone(path, filled)


def test_an_index_is_gone_for_good_before_an_erasure_goes_on(path: Path) -> None:
    """A power cut may bring back what was removed, until its folder is synced."""
    fill(path)
    with killed_at("traces-dropped"):
        forget_device(path, GONE, now_s=NOW_S)
    assert not (path / INDEX_NAME).exists()
    forget_device(path, GONE, now_s=NOW_S)


def test_a_file_that_another_device_has_too_stays(path: Path) -> None:
    one, other = (
        Backup(f"00000000-0000-4000-8000-00000000000{n}", DEVICES[n], b"same\n", None, "poll")
        for n in (0, 1)
    )
    Writer(create_repository(path)).commit_backups([one, other])
    forget_device(path, GONE, now_s=NOW_S)
    assert git(path, "show", f"main:{DEVICES[0]}/{EXPORT_NAME}") == b"same\n"


def test_after_retention_the_old_history_goes_too(path: Path) -> None:
    filled = fill(path)
    policy = policy_of({"keep_last": 1})
    apply_retention(create_repository(path), policy, now_s=NOW_S + 1, grace_s=86_400)
    assert git(path, "for-each-ref", "refs/confkeep")
    forget_device(path, GONE, now_s=NOW_S + 2)
    assert git(path, "for-each-ref", "refs/confkeep") == b""
    found = raw_bytes(path)
    assert GONE.encode() not in found
    assert bytes.fromhex(GONE.replace("-", "")) not in found
    again = [backup for backup, _sha in filled.values()]
    assert all(a.replayed for a in Writer(create_repository(path)).commit_backups(again))


def test_the_last_device_of_a_tenant_leaves_an_empty_repository(path: Path) -> None:
    backup = Backup(TENANT, GONE, SECRET, None, "poll")
    Writer(create_repository(path)).commit_backups([backup])
    assert forget_device(path, GONE, now_s=NOW_S).commits == 1
    assert traces_of_device(path, GONE) == []
    assert devices_of(open_repository(path)) == []
    (answer,) = Writer(create_repository(path)).commit_backups([backup])
    assert answer.replayed
    fill(path)
    assert len(backup_ids(path)) == 31


def test_a_device_that_is_not_there_changes_nothing(path: Path) -> None:
    fill(path)
    before = git(path, "rev-parse", "main")
    assert forget_device(path, TENANT, now_s=NOW_S).commits == 0
    assert git(path, "rev-parse", "main") == before


@pytest.mark.parametrize(
    "failpoint",
    ["pack-durable", "map-written", "ref-locked", "ref-moved", "map-settled", "traces-dropped",
     "branches-moved", "pruned-pack-durable", "pack-pruned", "pruned"],
)  # fmt: skip
def test_a_killed_erasure_is_run_again(failpoint: str, path: Path) -> None:
    filled = fill(path)
    merge(path)
    git(path, "branch", "mine", "main~3")

    with killed_at(failpoint):
        forget_device(path, GONE, now_s=NOW_S)
    assert_sound(path)
    forget_device(path, GONE, now_s=NOW_S + 1)
    assert_gone(path, filled)
    assert len(git(path, "rev-list", "--parents", "-1", "main").split()) == 3
    assert git(path, "merge-base", "--is-ancestor", "mine", "main") == b""


def test_commits_of_other_programs_lose_the_device_alone(path: Path) -> None:
    stream = Stream()
    one, other = DEVICES[0], GONE
    stream.commit(
        {"README": b"ours\n", f"{one}/export.rsc": b"1\n", f"{other}/export.rsc": SECRET}, when_s=1
    )
    stream.commit({f"{other}/export.rsc": b"f0cbd6 too\n"}, when_s=2)
    stream.commit({f"{one}/export.rsc": b"2\n", f"{other}/export.rsc": None}, when_s=3)
    stream.commit({"README": None}, when_s=4)
    stream.write(path)
    forget_device(path, GONE, now_s=NOW_S)
    assert git(path, "log", "--format=%ct", "main").split() == [b"4", b"3", b"1"]
    assert git(path, "ls-tree", "-r", "--name-only", "main~2").split() == [
        b"README",
        f"{one}/export.rsc".encode(),
    ]
    assert_gone(path, {})


def entries(path: Path, commit: str) -> dict[str, str]:
    lines = git(path, "ls-tree", commit).decode().splitlines()
    return {line.partition("\t")[2]: line.partition("\t")[0] for line in lines}


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.chaos) for n in range(3, 20))]
)
def test_a_history_of_any_shape_loses_the_device_alone(seed: int, path: Path, store: Path) -> None:
    write_merged(path, DEVICES, 40, seed)
    old_ids = list(reversed(ids_of_main(path)))
    copy = store / "old.git"
    git(store, "clone", "--quiet", "--mirror", str(path), str(copy))
    trees = {sha: entries(copy, sha) for sha in old_ids}
    for tree in trees.values():
        tree.pop(GONE, None)
    parents = {
        line.split()[0]: line.split()[1:]
        for line in git(copy, "log", "--format=%H %P", "main").decode().splitlines()
    }
    forgotten = forget_device(path, GONE, now_s=NOW_S)
    assert traces_of_device(path, GONE) == []
    assert GONE.encode() not in raw_bytes(path)
    repository = open_repository(path)
    now: dict[str, str | None] = {}
    gone = 0
    for sha in sorted(old_ids, key=lambda sha: len(git(copy, "rev-list", sha).split())):
        mapped = list(dict.fromkeys(filter(None, (now[parent] for parent in parents[sha]))))
        try:
            commit = find_commit(repository, sha)
        except RemovedByRetention:
            gone += 1
            assert len(mapped) <= 1
            assert all(trees[sha] == trees[parent] for parent in parents[sha] if now[parent])
            now[sha] = mapped[0] if mapped else None
            continue
        new = now[sha] = str(commit.id)
        assert entries(path, new) == trees[sha]
        assert [str(parent) for parent in commit.parent_ids] == mapped
        written = ("log", "-1", "--format=%an %ae %at %cn %ce %ct %B")
        assert git(path, *written, new) == git(copy, *written, sha)
    assert (forgotten.commits, now[old_ids[-1]]) == (
        gone,
        git(path, "rev-parse", "main").decode().strip(),
    )
    assert 0 < gone < len(old_ids)


def test_other_branches_lose_the_device_too_and_a_tag_is_found(path: Path) -> None:
    filled = fill(path)
    git(path, "branch", "mine", "main~1")
    only = git(
        path, "commit-tree", "-m", "alone", f"{git(path, 'mktree', stdin=b'').decode().strip()}"
    )
    git(path, "branch", "other", only.decode().strip())
    git(path, "tag", "-a", "-m", "old", "old", "main")
    with pytest.raises(ErasureIncomplete, match="is there a tag"):
        forget_device(path, GONE, now_s=NOW_S)
    git(path, "tag", "-d", "old")
    forget_device(path, GONE, now_s=NOW_S)
    assert_gone(path, filled)
    assert git(path, "rev-parse", "other") == only
    assert git(path, "branch", "--format=%(refname:short)").split() == [b"main", b"mine", b"other"]


def test_a_commit_of_the_device_that_changed_others_too_loses_its_name(path: Path) -> None:
    fill(path)
    blob = git(path, "hash-object", "-w", "--stdin", stdin=b"f0cbd6\n").decode().strip()
    tree = {}
    for device, name in ((GONE, "export.rsc"), (DEVICES[0], "backup.bin")):
        folder = git(path, "mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())
        tree[device] = f"040000 tree {folder.decode().strip()}"
    lines = [f"{entry}\t{name}\n" for name, entry in {**entries(path, "main"), **tree}.items()]
    root = git(path, "mktree", stdin="".join(lines).encode()).decode().strip()
    parent = git(path, "rev-parse", "main").decode().strip()
    who = "Plain <plain@example.net> 1 +0000"
    text = (
        f"tree {root}\nparent {parent}\nauthor {who}\ncommitter {who}\n"
        f"device-id {GONE}\nbackup-id {TENANT}\n\nof two\n"
    )
    made = git(path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text.encode())
    git(path, "update-ref", "refs/heads/main", made.decode().strip())
    assert TENANT in forget_device(path, GONE, now_s=NOW_S).backup_ids
    raw = git(path, "cat-file", "commit", "main")
    assert (b"device-id" in raw, b"backup-id" in raw, b"of two" in raw) == (False, True, True)
    assert entries(path, "main")[DEVICES[0]] == tree[DEVICES[0]]


def test_a_tenant_goes_whole_also_after_a_kill(path: Path, store: Path) -> None:
    fill(path)
    assert forget_tenant(path)
    assert list(store.iterdir()) == []
    assert not forget_tenant(path)
    fill(path)
    subprocess.run(["mv", str(path), str(store / f".{path.name}.confkeep_1")], check=True)
    assert forget_tenant(path)
    assert list(store.iterdir()) == []
    assert tenants_of(store) == []
