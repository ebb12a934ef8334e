"""Repositories that plain git or pygit2 wrote beforehand open, list and take commits."""

from __future__ import annotations

import uuid
from pathlib import Path

import pygit2
import pytest

from confkeep.errors import RepositoryDamaged
from tests.judge import git, log_of_device
from worker.store.repository import reader
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.upkeep.adopt import look
from worker.store.writing.commit import Writer

D1, D2, D3 = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))


def plain_init(path: Path, branch: str) -> None:
    path.mkdir()
    git(path, "init", "--quiet", "--bare", f"--initial-branch={branch}")


def plain_commit(
    path: Path, branch: str, files: dict[str, bytes], parents: list[str], when_s: int
) -> str:
    """A commit of exactly `files`, made with git's plumbing."""
    index = "".join(
        f"100644 {git(path, 'hash-object', '-w', '--stdin', stdin=data).decode().strip()}\t{name}\n"
        for name, data in files.items()
    )
    git(path, "read-tree", "--empty")
    git(path, "update-index", "--index-info", stdin=index.encode())
    tree = git(path, "write-tree").decode().strip()
    (path / "index").unlink()
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    who = f"Plain Git <plain@example.net> {when_s} +0200"
    raw = "\n".join([*lines, f"author {who}", f"committer {who}", "", f"at {when_s}\n"])
    sha = git(path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode())
    git(path, "update-ref", f"refs/heads/{branch}", sha.decode().strip())
    return sha.decode().strip()


def files_of(**exports: str) -> dict[str, bytes]:
    """`d1="x"` stands for the export of the device D1."""
    devices = {"d1": D1, "d2": D2, "d3": D3}
    return {f"{devices[name]}/export.rsc": text.encode() for name, text in exports.items()}


def build_linear(path: Path, branch: str) -> list[str]:
    shas: list[str] = []
    for number, files in enumerate(
        [
            files_of(d1="a\n"),
            files_of(d1="a\n", d2="b\n"),
            files_of(d1="a2\n", d2="b\n"),
            files_of(d1="a2\n", d2="b\n"),
        ]
    ):
        shas.append(plain_commit(path, branch, files, shas[-1:], 1_600_000_000 + number))
    return shas


def build_merged(path: Path, branch: str) -> list[str]:
    """Two branches and three merges: one takes a side whole, one mixes, one changes by itself."""
    base = plain_commit(path, branch, files_of(d1="1", d2="1"), [], 1000)
    left = plain_commit(path, branch, files_of(d1="2", d2="1"), [base], 1100)
    right = plain_commit(path, "side", files_of(d1="1", d2="2"), [base], 1050)
    mixed = plain_commit(path, branch, files_of(d1="2", d2="2"), [left, right], 1200)
    on_side = plain_commit(path, "side", files_of(d1="3", d2="2", d3="1"), [right], 900)
    theirs = plain_commit(path, branch, files_of(d1="3", d2="2", d3="1"), [mixed, on_side], 1200)
    later = plain_commit(path, "side", files_of(d1="4", d2="2"), [on_side], 1250)
    evil = plain_commit(path, branch, files_of(d1="5", d2="9"), [theirs, later], 1240)
    git(path, "branch", "--quiet", "-D", "side")
    return [base, left, right, mixed, on_side, theirs, later, evil]


def take_commits(path: Path, before_tip: str) -> None:
    """The store goes on where the other writer stopped."""
    repository = create_repository(path)
    backups = [
        Backup(str(uuid.uuid4()), device, export, b"\0binary", "from the store")
        for device, export in ((D1, b"new\n"), (D3, b"third\n"), (D3, b"third\n"))
    ]
    answers = Writer(repository).commit_backups(backups, now_s=1_700_000_000)
    reopened = open_repository(path)
    assert (path / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert git(path, "rev-parse", "main~3", "main").decode().split() == [
        before_tip,
        answers[-1].sha,
    ]
    for device in (D1, D2, D3):
        listed = [version.sha for version in reader.walk_versions(reopened, device)]
        assert listed == log_of_device(path, device)
    newest = next(reader.walk_versions(reopened, D1))
    assert (newest.sha, newest.backup_id) == (answers[0].sha, backups[0].backup_id)
    assert reader.read_file(reopened, answers[-1].sha, D1, "export.rsc") == b"new\n"
    assert [answer.unchanged for answer in answers] == [False, False, True]


@pytest.mark.parametrize("keep", ["loose", "packed", "packed refs", "bitmaps and graph"])
@pytest.mark.parametrize("branch", ["main", "master"])
@pytest.mark.parametrize("build", [build_linear, build_merged])
def test_a_repository_of_plain_git(path: Path, build: object, branch: str, keep: str) -> None:
    plain_init(path, branch)
    shas = build(path, branch)  # type: ignore[operator]
    if keep == "packed":
        git(path, "repack", "-q", "-a", "-d")
    elif keep == "packed refs":
        git(path, "pack-refs", "--all")
    elif keep == "bitmaps and graph":
        git(path, "repack", "-q", "-a", "-d", "-b", "--write-midx")
        git(path, "commit-graph", "write", "--reachable", "--changed-paths")
        git(path, "pack-refs", "--all")

    repository = open_repository(path)
    for device in (D1, D2, D3):
        versions = list(reader.walk_versions(repository, device))
        assert [version.sha for version in versions] == log_of_device(path, device, branch)
        assert {version.backup_id for version in versions} <= {None}
    assert (
        reader.read_file(repository, shas[0][:12], D1, "export.rsc")
        == git(path, "show", f"{shas[0]}:{D1}/export.rsc")
    )  # fmt: skip
    take_commits(path, shas[-1])


@pytest.mark.parametrize("head", ["master", "main"])
def test_head_names_a_branch_without_commits(path: Path, head: str) -> None:
    """HEAD points to one of main and master; the commits are on the other."""
    other = "main" if head == "master" else "master"
    plain_init(path, other)
    shas = build_linear(path, other)
    git(path, "symbolic-ref", "HEAD", f"refs/heads/{head}")
    if other == "main":
        listed = [v.sha for v in reader.walk_versions(open_repository(path), D1)]
        assert listed == [shas[2], shas[0]]
        take_commits(path, shas[-1])
    else:
        # Nothing says that master is this tenant's branch: `main` stays what HEAD says it is.
        repository = create_repository(path)
        assert repository.tip() is None
        git(path, "branch", "-m", "master", "main")


def test_main_goes_before_the_branch_that_head_names(path: Path) -> None:
    plain_init(path, "main")
    build_linear(path, "main")
    tip = git(path, "rev-parse", "main").decode().strip()
    plain_commit(path, "master", files_of(d1="other\n"), [], 1)
    git(path, "symbolic-ref", "HEAD", "refs/heads/master")
    assert str(open_repository(path).tip()) == tip
    take_commits(path, tip)


def test_a_detached_head_is_adopted(path: Path) -> None:
    plain_init(path, "master")
    shas = build_linear(path, "master")
    git(path, "update-ref", "--no-deref", "HEAD", shas[-1])
    git(path, "update-ref", "-d", "refs/heads/master")
    take_commits(path, shas[-1])


def test_a_repository_of_pygit2(path: Path) -> None:
    """As the module that this store replaces wrote it."""
    repo = pygit2.init_repository(str(path), bare=True)
    who = pygit2.Signature("The Other Dude", "backup@tod.local", 1_600_000_000, 0)
    parents: list[pygit2.Oid] = []
    for device, export in ((D1, b"1\r\n"), (D2, b"1\n"), (D1, b"2\r\n"), (D1, b"2\r\n")):
        device_tree = repo.TreeBuilder()
        device_tree.insert("export.rsc", repo.create_blob(export), pygit2.enums.FileMode.BLOB)
        device_tree.insert("backup.bin", repo.create_blob(b"\0"), pygit2.enums.FileMode.BLOB)
        root = repo.TreeBuilder(repo[parents[0]].tree) if parents else repo.TreeBuilder()
        root.insert(device, device_tree.write(), pygit2.enums.FileMode.TREE)
        parents = [
            repo.create_commit("refs/heads/main", who, who, "poll", root.write(), list(parents))
        ]
    del repo
    assert (path / "HEAD").read_text() == "ref: refs/heads/master\n"
    assert len(list(reader.walk_versions(open_repository(path), D1))) == 2
    take_commits(path, str(parents[0]))


def test_folders_and_files_that_are_no_devices(path: Path) -> None:
    plain_init(path, "main")
    sha = plain_commit(
        path,
        "main",
        {"README.md": b"#\n", "notes/x": b"x", D2: b"a file\n", f"{D1}/export.rsc": b"1\n",
         f"{D1}/sub/export.rsc": b"2\n"},
        [],
        1000,
    )  # fmt: skip
    repository = open_repository(path)
    assert reader.devices_of(repository) == [D1]
    assert [v.sha for v in reader.walk_versions(repository, D1)] == [sha]
    assert [v.sha for v in reader.walk_versions(repository, D2)] == log_of_device(path, D2)
    with pytest.raises(KeyError):
        reader.read_file(repository, sha, D2, "export.rsc")
    take_commits(path, sha)
    # What is not ours is carried over.
    assert git(path, "show", "main:README.md") == b"#\n"
    assert git(path, "show", f"main:{D1}/sub/export.rsc") == b"2\n"


def test_a_repository_that_lacks_a_commit_is_told_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.git"
    plain_init(path, "main")
    first, *_ = build_linear(path, "main")
    (path / "objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(RepositoryDamaged, match=path.name):
        look(path)
