"""Root trees that are kept from one batch to the next."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.judge import assert_sound, git
from worker.store.git import pack
from worker.store.git.pack import TreeEntry
from worker.store.git.root_tree import RootTree
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing import kept_roots
from worker.store.writing.commit import Writer
from worker.store.writing.kept_roots import KeptRoots


def _tree(entries: int) -> RootTree:
    names = (str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))).encode() for n in range(entries))
    return RootTree(pack.encode_tree(TreeEntry(b"40000", name, b"1" * 20) for name in names))


def test_a_tree_is_given_once_and_for_its_own_commit() -> None:
    kept, tree = KeptRoots(), _tree(1)
    kept.keep("a", tree)
    assert kept.take("b") is None
    assert kept.take(None) is None
    assert kept.take("a") is tree
    assert kept.take("a") is None


def test_the_least_recent_trees_give_way() -> None:
    kept = KeptRoots(most_bytes=30_000)
    for commit in ("a", "b", "c", "c"):
        kept.keep(commit, _tree(100))
    assert kept.take("a") is None
    assert kept.take("b") is not None
    kept.keep("huge", _tree(1_000))
    assert kept.take("c") is None
    assert kept.take("huge") is None
    for _ in range(9):
        kept.keep("d", _tree(100))
        assert kept.take("d") is not None


def test_commits_of_one_to_a_large_tenant_are_gits_own(path: Path) -> None:
    """With writers that build on each other's commits, on trees that are kept and that are read."""
    # Two parts of 32 KB.
    devices = [str(uuid.uuid4()) for _ in range(540)]
    writers = [Writer(create_repository(path)) for _ in range(2)]

    def backup(device: str, text: bytes) -> Backup:
        return Backup(str(uuid.uuid4()), device, text, None, "m")

    writers[0].commit_backups([backup(device, b"first\n") for device in devices])
    expected = dict.fromkeys(devices, b"first\n")
    for number, device in enumerate([*devices[:2], devices[-1], str(uuid.uuid4()), *devices[:2]]):
        expected[device] = b"%d\n" % number
        if number % 3 == 1:
            tip = git(path, "rev-parse", "main").decode().strip()
            assert kept_roots.of_process.take(tip) is not None
        writers[number % 2].commit_backups([backup(device, expected[device])])
    assert_sound(path)
    stream = "".join(f"main:{device}/export.rsc\n" for device in expected).encode()
    assert git(path, "cat-file", "--batch=", stdin=stream) == b"".join(
        b"\n%b\n" % text for text in expected.values()
    )
