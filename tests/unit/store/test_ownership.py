"""A store of one user, looked at and written by others: who may what, and whose files are afterwards.

Needs root, to play the others; each does in a child of its own.
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import stat
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from confkeep.errors import NotOwner
from confkeep.settings import get_settings
from tests.bench.fleet import Fleet
from tests.judge import GIT_ENVIRONMENT
from worker.cli import cli
from worker.process.health import write_probe
from worker.store.history.index import INDEX_NAME
from worker.store.repository.tenant_repository import create_repository
from worker.store.rewriting.forget import forget_device, forget_tenant
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_file import save_rules
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.upkeep import audit
from worker.store.upkeep.adopt import adopt
from worker.store.upkeep.drill import drill_repository
from worker.store.upkeep.repack import repack
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Outcome
from worker.store.writing.commit import Writer

OWNER, STRANGER, GROUP = 10_001, 10_002, 10_003
TENANT = "11111111-2222-4333-8444-555555555555"
POLICY = policy_of({"keep_last": 2})

# Children that are others may not read where Python is.
codecs.lookup("ascii")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT ROOT: who may read and write whose repository IS NOT TESTED"
)


def played_by(uid: int, gid: int, act: Callable[[], object]) -> object:
    """What `act` returns, as JSON, in a child that is that user; the child's error fails the test."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            # That of the tests is root's alone.
            tempfile.tempdir = os.environ["TMPDIR"] = "/dev/shm"
            said = {"answer": act()}
        except BaseException:  # the parent reports it
            said = {"error": traceback.format_exc()}
        with os.fdopen(writing, "w") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = json.load(pipe)
    os.waitpid(child, 0)
    assert "error" not in said, said["error"]
    return said["answer"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all users can reach, and that belongs to the owner."""
    folder = Path(tempfile.mkdtemp(prefix="confkeep-owner-", dir="/dev/shm"))
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o755)
    os.chown(folder / "data", OWNER, OWNER)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def path(place: Path) -> Path:
    """A repository of the owner's, with a history."""
    repository = place / "store" / f"{TENANT}.git"
    fill(repository)  # also imports what a child could not
    shutil.rmtree(place / "store")
    played_by(OWNER, OWNER, lambda: fill(repository))
    return repository


def fill(path: Path, *, seed: int = 1) -> None:
    fleet = Fleet(2, seed=seed)
    for _ in range(4):
        Writer(create_repository(path)).commit_backups([fleet.backup(d) for d in fleet.device_ids])


def owners(folder: Path) -> dict[str, str]:
    """Owner, group and permissions of all that is in a folder, by path."""
    found = {}
    for each in [folder, *sorted(folder.rglob("*"))]:
        it = each.lstat()
        found[each.relative_to(folder).as_posix()] = (
            f"{it.st_uid}:{it.st_gid} {stat.S_IMODE(it.st_mode):o}"
        )
    return found


def foreign(folder: Path) -> dict[str, str]:
    """What in a folder is not the owner's alone."""
    return {
        name: said
        for name, said in owners(folder).items()
        if not said.startswith(f"{OWNER}:{OWNER} ") or int(said.split()[1], 8) & 0o077
    }


def command(path: Path, *words: str) -> tuple[int, str]:
    """The status and all output of a command on the store."""
    get_settings.cache_clear()
    environment = {"CONFKEEP_GIT_STORE_PATH": str(path.parent)}
    done = CliRunner().invoke(cli, list(words), env=environment)
    get_settings.cache_clear()
    return done.exit_code, done.output


def everything_that_writes(path: Path, now_s: int) -> None:
    """All that root may do to a store that is another's."""
    fleet = Fleet(2)
    Writer(create_repository(path)).commit_backups([fleet.backup(fleet.device_ids[0])])
    for name in ("HEAD", INDEX_NAME, "config"):
        (path / name).write_bytes(b"damaged")
    for _ in range(2):
        repair_repository(verify_repository(path))
    assert verify_repository(path).findings == []
    repack(path, full=False)
    repack(path, full=True)
    save_rules(path, {"keep_last": 2})
    for step in range(3):
        fill(path, seed=5 + step)
        applied = apply_retention(
            create_repository(path), POLICY, now_s=now_s + 9 * step, grace_s=86_400 if step else 0
        )
        assert applied.tip is not None
    undo_retention(create_repository(path), now_s=now_s + 50)
    forget_device(path, fleet.device_ids[1], now_s=now_s + 60)
    audit.append(path.parent, action="test")
    other = path.with_name(f"{TENANT[:-1]}6.git")
    fill(other)
    adopt(other, pack=True)
    assert drill_repository(other, sample=2, seed=1).problems == []
    write_probe(path.parent)


def test_what_root_does_leaves_the_owner_all(path: Path) -> None:
    assert foreign(path.parent) == {}
    everything_that_writes(path, int(time.time()))
    assert foreign(path.parent) == {}
    for repository in (path, path.with_name(f"{TENANT[:-1]}6.git")):
        played_by(OWNER, OWNER, lambda path=repository: fill(path))  # type: ignore[misc]
        assert verify_repository(repository).findings == []
    assert command(path, "reindex", TENANT)[0] == 0
    forget_tenant(path)
    assert foreign(path.parent) == {}


def test_root_runs_no_program_that_a_repository_names(path: Path, place: Path) -> None:
    """A hook in a repository does what its owner may do, and no more."""
    hook = path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nid -u >> {place}/ran\n")
    hook.chmod(0o755)
    forget_device(path, Fleet(2).device_ids[1], now_s=int(time.time()))
    ran = place / "ran"
    assert not ran.exists() or set(ran.read_text().split()) == {str(OWNER)}


def test_a_file_that_root_left_is_healed_when_it_is_replaced(path: Path) -> None:
    (path / "HEAD").write_bytes(b"damaged")
    os.chown(path / "HEAD", 0, 0)
    repair_repository(verify_repository(path))
    assert foreign(path.parent) == {}


def test_root_reads_and_nothing_is_damaged(path: Path) -> None:
    assert verify_repository(path).outcome == Outcome.CLEAN
    assert drill_repository(path, sample=2, seed=1).problems == []
    assert command(path, "history")[0] == 0
    assert foreign(path.parent) == {}


WRITING: dict[str, Callable[[Path], object]] = {
    "commit": fill,
    "repair": lambda path: repair_repository(verify_repository(path)),
    "repack": repack,
    "rules": lambda path: save_rules(path, {"keep_last": 3}),
    "retention": lambda path: apply_retention(create_repository(path), POLICY, now_s=0, grace_s=0),
    "forget a device": lambda path: forget_device(path, Fleet(2).device_ids[0], now_s=0),
    "forget a tenant": forget_tenant,
    "adopt": adopt,
}


def readable(folder: Path) -> None:
    """Let everybody read, as an older release or a person may have."""
    for each in [folder, *folder.rglob("*")]:
        each.chmod(0o755 if each.is_dir() else 0o644)


@pytest.mark.parametrize("opened", [False, True])
def test_another_user_writes_nothing_and_is_told_whose_it_is(path: Path, opened: bool) -> None:
    if opened:
        readable(path.parent)
    before = owners(path.parent)

    def try_all() -> list[str]:
        said = []
        for name, write in WRITING.items():
            try:
                write(path)
            except NotOwner as error:
                said.append(str(error))
            else:
                said.append(f"{name} was done")
        return said

    said = played_by(STRANGER, STRANGER, try_all)
    assert isinstance(said, list)
    for text in said:
        assert f"belongs to uid {OWNER}, you are uid {STRANGER}" in text
    assert owners(path.parent) == before


def test_another_user_reads_what_its_permissions_allow(path: Path) -> None:
    readable(path.parent)
    device = Fleet(2).device_ids[0]
    words = (
        ["verify"],
        ["history"],
        ["history", TENANT],
        ["history", TENANT, device],
        ["show", TENANT, device],
        ["diff", TENANT, device],
        ["drill", "--sample", "2"],
        ["retention", "plan"],
        ["stale", "--older-than", "1d"],
    )
    expected = [list(command(path, *each)) for each in words]  # imports what a child could not
    assert [status for status, _said in expected] == [0] * len(words)
    before = owners(path.parent)
    found = played_by(STRANGER, STRANGER, lambda: [command(path, *each) for each in words])
    assert isinstance(found, list)
    assert [each[0] for each in found] == [0] * len(words), found
    assert owners(path.parent) == before


def test_another_user_who_may_read_nothing_is_told_whose_it_is(path: Path) -> None:
    words = [["verify"], ["history"], ["stale", "--older-than", "1d"], ["repair", TENANT]]
    words += [["show", TENANT, Fleet(2).device_ids[0]], ["verify", TENANT], ["drill"]]
    for each in words:
        command(path, *each)
    found = played_by(STRANGER, STRANGER, lambda: [command(path, *each) for each in words])
    assert isinstance(found, list)
    for each, (status, said) in zip(words, found, strict=True):
        assert status == NotOwner.exit_code, (each, said)
        assert f"belongs to uid {OWNER}, you are uid {STRANGER}" in said, each
        assert "sudo -u" in said
        assert "damaged" not in said


def test_one_file_that_may_not_be_read_is_no_damage(path: Path) -> None:
    readable(path.parent)
    pack = next(path.glob("objects/pack/*.pack"))
    pack.chmod(0o400)
    verify_repository(path)

    def look() -> list[str]:
        report = verify_repository(path)
        return [report.outcome.value, *(finding.text for finding in report.findings)]

    said = played_by(STRANGER, STRANGER, look)
    assert said == ["unreadable", f"{pack.name} belongs to uid {OWNER}, you are uid {STRANGER}"]
    readable(path.parent)
    (path / "objects/pack").chmod(0o700)
    said = played_by(STRANGER, STRANGER, look)
    assert said == ["unreadable", f"pack belongs to uid {OWNER}, you are uid {STRANGER}"]


def test_a_store_that_is_shared_with_a_group_is_written_by_its_members(place: Path) -> None:
    path = place / "store" / f"{TENANT}.git"
    fill(path)
    shutil.rmtree(place / "store")
    os.chown(place, OWNER, GROUP)
    place.chmod(0o2770)
    played_by(OWNER, GROUP, lambda: fill(path))

    def go_on() -> None:
        fill(path)
        repack(path, full=True)

    played_by(STRANGER, GROUP, go_on)
    played_by(OWNER, GROUP, go_on)
    assert verify_repository(path).findings == []
    for name, said in owners(path).items():
        assert said.split()[0].endswith(f":{GROUP}"), (name, said)


def test_the_probe_makes_the_stores_folder_as_a_commit_does(place: Path) -> None:
    before = os.umask(0o022)
    try:
        place.chmod(0o2770)
        write_probe(place / "a" / "store")
        (place / "plain").mkdir()
        (place / "plain").chmod(0o700)
        write_probe(place / "plain" / "store")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((place / n).stat().st_mode) for n in ("a", "a/store", "plain/store")]
    assert [oct(mode) for mode in modes] == ["0o2770", "0o2770", "0o700"]


def test_git_is_there_for_the_others() -> None:
    """Else the tests above would prove less than they seem to."""
    assert shutil.which("git", path=GIT_ENVIRONMENT["PATH"]) is not None
