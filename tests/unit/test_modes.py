"""Nobody else can read what is kept: every file and folder, whatever made it and whatever the umask."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import VolumeStaging
from tests.bench.fleet import Fleet
from tests.judge import git
from tests.turns import TENANT, submission
from worker.cli import running
from worker.process.local import EmbeddedServer
from worker.store.git import refs
from worker.store.history.index import open_index
from worker.store.repository.tenant_repository import create_repository
from worker.store.rewriting.forget import forget_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_file import save_rules
from worker.store.rewriting.retention_rules import policy_of
from worker.store.upkeep import audit
from worker.store.upkeep.repack import repack
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

NAME = f"{TENANT}.git"


@pytest.fixture(autouse=True)
def widest_umask() -> Iterator[None]:
    """The one under which everything is for everybody that nobody protects."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path: Path) -> dict[str, int]:
    """The permissions of a folder and all that is in it, by path."""
    found = {".": path, **{str(each.relative_to(path)): each for each in path.rglob("*")}}
    return {name: stat.S_IMODE(each.lstat().st_mode) for name, each in found.items()}


def live(path: Path) -> None:
    """All that happens to a repository in its life; what it leaves holds every kind of file."""
    fleet = Fleet(3)
    repository = create_repository(path)
    for _ in range(6):
        Writer(repository).commit_backups([fleet.backup(device) for device in fleet.device_ids])
    with open_index(repository) as index:
        index.catch_up(repository.tip())
    forget_device(path, fleet.device_ids[2], now_s=int(time.time()))
    audit.append(path.parent, action="test")
    repository = create_repository(path)
    for _ in range(6):
        Writer(repository).commit_backups([fleet.backup(fleet.device_ids[0])])
    repack(path, full=False)
    Writer(repository).commit_backups([fleet.backup(fleet.device_ids[0])])
    repack(path, full=True)
    save_rules(path, {"keep_last": 3})
    apply_retention(
        create_repository(path),
        policy_of({"keep_last": 3}),
        now_s=int(time.time()),
        grace_s=86_400,
    )
    repository = create_repository(path)
    Writer(repository).commit_backups([fleet.backup(fleet.device_ids[1])])
    Writer(create_repository(path)).commit_backups([fleet.backup(fleet.device_ids[0])])
    for _ in range(3):
        Writer(create_repository(path)).commit_backups([fleet.backup(fleet.device_ids[0])])
    repack(path, full=False)
    assert verify_repository(path).findings == []
    for name in os.listdir(path):
        if name.startswith("confkeep.index") or name == "HEAD":
            (path / name).write_bytes(b"damaged")
    repair_repository(verify_repository(path))
    assert verify_repository(path).findings == []


def test_a_store_is_its_users_alone(tmp_path: Path) -> None:
    store = tmp_path / "data" / "store"
    live(store / NAME)
    found = modes(store.parent)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
    kinds = {Path(name).suffix for name in found}
    assert kinds >= {".git", ".pack", ".idx", ".flock", ".audit"}, "all kinds were made"
    names = {Path(name).name for name in found}
    assert names >= {"HEAD", "config", "main", "commit-graph", "confkeep.index"}


def test_a_store_that_was_shared_with_a_group_stays_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o2770)
    # A narrow umask takes nothing from the group.
    os.umask(0o077)
    live(store / NAME)
    for name, mode in modes(store).items():
        if (store / name).is_dir():
            assert mode & 0o777 == 0o770, (name, oct(mode))
        else:
            # Git's own files are read-only.
            assert mode & 0o007 == 0, (name, oct(mode))
            assert mode & 0o060 in (0o060, 0o040), (name, oct(mode))


def test_an_older_store_keeps_what_others_may(tmp_path: Path) -> None:
    store = tmp_path / "store"
    path = store / NAME
    create_repository(path)
    for folder, _folders, files in os.walk(store):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)
    live(path)
    found = modes(path)
    assert found["."] == 0o755
    assert found["HEAD"] == 0o644
    assert found["refs/heads/main"] == 0o644
    assert not any(mode & 0o022 for mode in found.values())


def staged(root: Path) -> VolumeStaging:
    volume = VolumeStaging(root)
    volume.stage(TENANT, submission(1).entry, Contents(b"/ip", None))
    return volume


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path, fleet = tmp_path / "store" / NAME, Fleet(1)
    repository = create_repository(path)
    [made] = Writer(repository).commit_backups([fleet.backup(fleet.device_ids[0])])
    for name in ("refs/confkeep/a", "refs/confkeep/b"):
        refs.create_ref(path, name, made.sha)
    git(path, "pack-refs", "--all", "--no-prune")
    save_rules(path, {"keep_last": 3})
    names = ("packed-refs", "HEAD", "refs/heads/main", "confkeep.retention")
    before = {}
    for name in names:
        (path / name).chmod(0o640)
        before[name] = (path / name).stat().st_ino
    refs.delete_refs(path, ["refs/confkeep/a"])
    Writer(repository).commit_backups([fleet.backup(fleet.device_ids[0])])
    save_rules(path, {"keep_last": 2})
    git(path, "symbolic-ref", "HEAD", "refs/heads/other")
    (path / "HEAD").chmod(0o640)
    create_repository(path)
    for name in names:
        assert (path / name).stat().st_ino != before[name], f"{name} was written anew"
        assert oct(stat.S_IMODE((path / name).stat().st_mode)) == "0o640", name


def test_a_staging_volume_is_its_users_alone_or_its_groups(tmp_path: Path) -> None:
    staged(tmp_path / "own" / "staging")
    assert {mode & 0o077 for mode in modes(tmp_path / "own").values()} == {0}
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    volume = staged(shared)
    found = modes(shared)
    assert found[TENANT] & 0o777 == 0o770
    assert {mode for name, mode in found.items() if "/" in name} == {0o660}
    assert volume.read(TENANT, [submission(1).entry]) == [Contents(b"/ip", None)]
    volume.discard(TENANT, [submission(1).entry])
    assert os.listdir(shared / TENANT) == []


def test_the_embedded_servers_files_are_its_users_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server:
        running.RunningUp(server.pid, str(server.socket), "store").write(data)
        found = {**modes(data), **modes(server.socket.parent)}
        assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}
        assert {"server.log", "redis.sock", "appendonlydir"} <= set(found)
