"""Labels stand in git, go from commit to commit, and are found wherever the index is in."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from confkeep.labels import LABEL_NAMES, Labels
from confkeep.routeros.own_name import own_name
from tests.histories import START_S, device_ids
from tests.judge import assert_sound, git, log_of_device
from worker.store.history.index import DAMAGE_MARK, INDEX_NAME, open_index
from worker.store.repository import headers
from worker.store.repository.backup import NOTHING_KNOWN, Backup, Naming
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting.forget import forget_device, traces_of_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

CORE, EDGE, BARE = device_ids(3)
DAY_S = 86_400


def capture(device: str, number: int, **labels: str) -> Backup:
    export = f"/system identity\nset name=own{number}\n".encode()
    return Backup(str(uuid.uuid4()), device, export, None, "poll", labels=Labels(**labels))


def naming(device: str, **labels: str) -> Naming:
    return Naming(str(uuid.uuid4()), device, Labels(**labels), f"call it {labels}")


def commit(path: Path, *backups: Backup | Naming, at_s: int = START_S) -> list[str]:
    writer = Writer(create_repository(path))
    return [answer.sha for answer in writer.commit_backups(backups, now_s=at_s)]


def in_git(path: Path, sha: str) -> list[str]:
    """The lines of a commit's header that git prints, without those that each commit has."""
    lines = git(path, "cat-file", "commit", sha).decode().split("\n\n")[0].splitlines()
    return [line for line in lines if line.startswith(("device-", "change "))][1:]


def labels_by_index(path: Path) -> dict[str, Labels]:
    repository = open_repository(path)
    with open_index(repository) as index:
        found = index.labels(repository.tip())
        assert index.labels(repository.tip(), [CORE, EDGE, BARE]) == found
        assert index.own_names(repository.tip()) == {
            device: own_name(git(path, "show", f"main:{device}/export.rsc"))
            for device in git(path, "ls-tree", "--name-only", "main").decode().split()
        }
    return found


def assert_called(path: Path, expected: dict[str, Labels]) -> None:
    """By the index as it is, rebuilt, and by git alone."""
    assert_sound(path)
    assert labels_by_index(path) == expected
    assert verify_repository(path).findings == []
    (path / INDEX_NAME).rename(path / "aside")
    assert labels_by_index(path) == expected, "by git alone"
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.catch_up(repository.tip())
        assert index.is_complete(repository.tip())
    assert labels_by_index(path) == expected, "rebuilt"
    (path / "aside").unlink()


def test_labels_are_carried_on_by_each_commit_of_the_device(path: Path) -> None:
    first, second, other, third = commit(
        path,
        capture(CORE, 1, name="core1", address="10.0.0.1", group="core"),
        capture(CORE, 2, model="CCR2004"),
        capture(BARE, 1),
        capture(CORE, 2, address="", name="core-1"),
    )
    # In another process, which knows them from the index alone.
    [fourth] = commit(path, capture(CORE, 3))
    assert in_git(path, first) == [
        "device-name core1",
        "device-address 10.0.0.1",
        "device-group core",
    ]
    assert in_git(path, second) == [
        "device-name core1",
        "device-address 10.0.0.1",
        "device-model CCR2004",
        "device-group core",
    ]
    assert in_git(path, other) == []
    newest = ["device-name core-1", "device-model CCR2004", "device-group core"]
    assert in_git(path, third) == in_git(path, fourth) == newest
    assert_called(path, {CORE: Labels("core-1", model="CCR2004", group="core")})


def test_a_message_is_no_header(tmp_path: Path) -> None:
    """It is the producer's text: whatever it says, it names no device and no backup."""
    said = "\nfirst\n\ndevice-name evil\ndevice-group evil\nbackup-id 0\nchange labels\n"
    for labels in (Labels(), Labels("core1")):
        backup = Backup(str(uuid.uuid4()), CORE, b"/ip\n", None, said, labels=labels)
        path = tmp_path / f"{uuid.uuid4()}.git"
        [sha] = commit(path, backup)
        raw = open_repository(path).git[sha].read_raw()
        assert headers.raw_message(raw).decode() == said
        assert (headers.labels_in(raw) or Labels()) == labels
        assert not headers.is_naming(raw)
        assert headers.id_in_header(raw, headers.BACKUP_ID_HEADER) == backup.backup_id


def test_labels_that_are_taken_away_stay_away(path: Path) -> None:
    commit(path, capture(CORE, 1, name="core1"), capture(CORE, 2, name=""))
    [last] = commit(path, capture(CORE, 3))
    assert in_git(path, last) == ["device-name "]
    assert_called(path, {CORE: Labels()})


def test_a_naming_is_no_capture_and_no_version(path: Path) -> None:
    commit(path, capture(CORE, 1), capture(EDGE, 1), at_s=START_S)
    renaming = naming(CORE, name="core1", group="core")
    writer = Writer(create_repository(path))
    [answer] = writer.commit_backups([renaming], now_s=START_S + 50)
    assert answer.unchanged
    assert answer.detail == NOTHING_KNOWN
    assert in_git(path, answer.sha) == ["device-name core1", "device-group core", "change labels"]
    assert git(path, "rev-parse", "main^{tree}") == git(path, "rev-parse", "main~1^{tree}")
    assert answer.sha not in log_of_device(path, CORE)
    assert_called(path, {CORE: Labels("core1", group="core")})
    repository = open_repository(path)
    with open_index(repository) as index:
        seen = index.all_last_seen(repository.tip())[CORE]
        assert seen.timestamp() == START_S
        assert [v.sha for v in index.versions(CORE, tip=repository.tip())] == log_of_device(
            path, CORE
        )
    [again] = writer.commit_backups([renaming], now_s=START_S + 99)
    assert again.replayed
    assert (again.sha, again.unchanged, again.detail) == (answer.sha, True, NOTHING_KNOWN)


@pytest.mark.parametrize("batches", [1, 2], ids=["one batch", "two batches"])
def test_a_device_may_be_named_before_the_first_backup(path: Path, batches: int) -> None:
    named, captured = naming(CORE, name="core1"), capture(CORE, 1)
    if batches == 1:
        commit(path, named, captured)
    else:
        commit(path, named)
        assert_sound(path)
        commit(path, captured)
    assert_called(path, {CORE: Labels("core1")})


def test_a_name_that_the_exports_of_a_batch_change_and_change_back(path: Path) -> None:
    commit(path, capture(CORE, 1), capture(EDGE, 1))
    commit(path, capture(CORE, 2), capture(CORE, 1), capture(EDGE, 2))
    assert_called(path, {})


@pytest.mark.parametrize("damaged", [False, True])
def test_a_writer_without_an_index_carries_labels_on(path: Path, damaged: bool) -> None:
    commit(path, capture(CORE, 1, name="core1"), capture(EDGE, 1))
    if damaged:
        (path / INDEX_NAME).write_bytes(b"no index")
        (path / DAMAGE_MARK).touch()
    (path / INDEX_NAME).unlink()
    # Nobody can write one either.
    (path / INDEX_NAME).mkdir()
    [last] = commit(path, capture(CORE, 2))
    assert in_git(path, last) == ["device-name core1"]
    (path / INDEX_NAME).rmdir()
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.catch_up(repository.tip())
    assert_called(path, {CORE: Labels("core1")})


def test_labels_survive_retention_and_its_undo(path: Path) -> None:
    many: Sequence[Backup] = [capture(CORE, number) for number in range(9)]
    commit(path, capture(CORE, 0, name="core1"), naming(EDGE, name="edge1"), *many)
    commit(path, naming(CORE, group="core"), capture(EDGE, 1, address="10.0.0.2"))
    expected = {CORE: Labels("core1", group="core"), EDGE: Labels("edge1", "10.0.0.2")}
    assert_called(path, expected)
    now_s = START_S + DAY_S
    apply_retention(
        create_repository(path), policy_of({"keep_last": 1}), now_s=now_s, grace_s=7 * DAY_S
    )
    assert len(git(path, "log", "--format=%H", "main").split()) == 4, "two captures, two namings"
    assert_called(path, expected)
    commit(path, naming(CORE, name="core-one"))
    undo_retention(create_repository(path), now_s=now_s + 1)
    assert_called(path, {**expected, CORE: Labels("core-one", group="core")})


def test_an_erased_device_leaves_no_label(path: Path) -> None:
    commit(
        path,
        capture(CORE, 1, name="secret-name", address="secret-address"),
        capture(EDGE, 1, name="edge1"),
        naming(CORE, model="secret-model"),
        capture(EDGE, 2),
    )
    forget_device(path, CORE, now_s=START_S + 1)
    assert traces_of_device(path, CORE) == []
    log = git(path, "log", "--format=raw", "--all").decode()
    assert "secret" not in log
    index = path / INDEX_NAME
    assert not index.exists() or b"secret" not in index.read_bytes()
    assert_called(path, {EDGE: Labels("edge1")})


def test_a_foreign_label_that_is_none_is_left_out(path: Path) -> None:
    [sha] = commit(path, capture(CORE, 1, name="core1"))
    raw = git(path, "cat-file", "commit", sha)
    for value in (b"\xff\xfe", b"a\x1b[31mred", b"x" * 300):
        changed = raw.replace(b"device-name core1", b"device-name " + value)
        made = git(path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=changed).decode()
        git(path, "update-ref", "refs/heads/main", made.strip())
        (path / INDEX_NAME).unlink(missing_ok=True)
        assert labels_by_index(path) == {CORE: Labels()}


@pytest.mark.parametrize(
    ("export", "expected"),
    [
        ("/system identity\nset name=core1\n", "core1"),
        ('/system identity\r\nset name="core 1"\r\n', "core 1"),
        ("# 2026-01-01\n/ip address\nadd address=1.1.1.1/32\n/system identity set name=r1\n", "r1"),
        ('/system identity\nset name="a\\"b\\5C\\_c"\n', 'a"b\\ c'),
        ('/system identity\nset name="a long n\\\n    ame"\n', "a long name"),
        ("/system identity\n# a comment\nset name=core1\n", "core1"),
        ('/system identity\nset name="\\1B[31mred"\n', None),
        ("/system identity\nset name=\xff\n", "\xff"),
        ("/system note\nset note=name\n", None),
        ("/ip hotspot profile\nset name=other\n", None),
        ("version 15.2\nhostname sw1\ninterface Gi0/1\n", "sw1"),
        ('    set hostname "FGT-60F"\n', "FGT-60F"),
        ("system {\n    host-name mx1;\n}\n", "mx1"),
        ("set system host-name vsrx\n", "vsrx"),
        ("! the hostname of all\n", None),
        ("", None),
    ],
)
def test_the_name_in_an_export(export: str, expected: str | None) -> None:
    assert own_name(export.encode()) == expected


def test_the_names_of_labels() -> None:
    assert LABEL_NAMES == ("name", "address", "model", "group")
