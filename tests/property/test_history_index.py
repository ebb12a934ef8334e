"""The history index answers as a walk over git does, whatever state its file is in."""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pygit2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.labels import Labels
from confkeep.routeros.own_name import own_name
from tests.histories import (
    START_S,
    Stream,
    device_ids,
    ids_of_main,
    random_backups,
    walked_detail,
    write_linear,
    write_merged,
)
from tests.judge import git, log_of_device
from worker.store.history import index_file, index_keeper, index_rows
from worker.store.history.index import (
    DAMAGE_MARK,
    INDEX_NAME,
    HistoryIndex,
    open_index,
)
from worker.store.history.index_file import IndexFile
from worker.store.history.index_rows import Entry, Root, version_of, with_crc
from worker.store.repository import reader
from worker.store.repository.backup import (
    Backup,
    Detail,
    Version,
    pack_uuid,
    unpack_uuid,
)
from worker.store.repository.tenant_repository import (
    TenantRepository,
    create_repository,
    open_repository,
)
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer, open_for_writing

UNKNOWN = "ffffffff-ffff-4fff-bfff-ffffffffffff"


#: The oracle; kept here so that a test can tell its own walks from the index's.
_walk = reader.walk_versions


def walked(path: Path, device: str) -> list[Version]:
    return list(_walk(open_repository(path), device))


def listed(path: Path, device: str, **options: object) -> list[Version]:
    """As a reader in another process: a new repository, a new index."""
    repository = open_repository(path)
    with open_index(repository) as index:
        return index.versions(device, tip=repository.tip(), **options)  # type: ignore[arg-type]


def bare(versions: Sequence[Version]) -> list[Version]:
    """Without what the oracle does not know."""
    return [replace(version, detail=None) for version in versions]


def catch_up(path: Path, **options: object) -> bool:
    repository = open_repository(path)
    with open_index(repository) as index:
        return index.catch_up(repository.tip(), **options)  # type: ignore[arg-type]


def assert_equals_git(path: Path, devices: Sequence[str]) -> None:
    for device in [*devices, UNKNOWN]:
        versions = listed(path, device)
        assert bare(versions) == walked(path, device)
        assert [version.sha for version in versions] == log_of_device(path, device)


def commit_without_index(repository: TenantRepository, backups: Sequence[Backup]) -> list[Entry]:
    """What a crash between the ref's move and the index's leaves: main moved, the file did not.

    Returns:
        What the writer would have told the index.
    """
    told: list[Entry] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HistoryIndex, "append", lambda _index, _parent, entries: told.extend(entries))
        patch.setattr(HistoryIndex, "catch_up", lambda *_arguments: True)
        Writer(repository).commit_backups(backups)
    return told


def ids_of(told: Sequence[Entry]) -> dict[str, str]:
    """The backup ids of commits, with the commits' ids."""
    return {str(entry.version.backup_id): entry.version.sha for entry in told}


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts the answers that came from walking git."""
    walks: list[str] = []

    def counted(repository: TenantRepository, device_id: str, **options: object) -> object:
        walks.append(device_id)
        return _walk(repository, device_id, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reader, "walk_versions", counted)
    return walks


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), commits=st.integers(1, 60), count=st.integers(1, 5))
def test_any_graph_of_commits(seed: int, commits: int, count: int) -> None:
    """Forks, merges and clocks that disagree: the order of `git log -- DEVICE`, from rows."""
    with tempfile.TemporaryDirectory() as folder:
        path, devices = Path(folder, "x.git"), device_ids(count, seed)
        write_merged(path, devices, commits, seed)
        assert catch_up(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "walk_versions", None)
            versions = {device: listed(path, device) for device in devices}
        for device, found in versions.items():
            assert [version.sha for version in found] == log_of_device(path, device)
            assert found == walked(path, device)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["commit", "lose", "append", "append", "append", "catch up", "delete"]),
            st.integers(1, 12),
        ),
        max_size=12,
    ),
)
def test_any_order_of_appends_losses_and_catching_up(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    rng, devices = random.Random(seed), device_ids(4, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{uuid.uuid4()}.git")
        repository = create_repository(path)
        ids: dict[str, str] = {}
        for kind, count in steps:
            parent = repository.tip()
            if kind in ("commit", "lose", "append"):
                backups = random_backups(devices, count, rng.getrandbits(32))
                told = commit_without_index(repository, backups)
                ids.update(ids_of(told))
                if kind == "append":
                    with open_index(repository) as index:
                        index.append(None if parent is None else str(parent), told)
                elif kind == "lose" and parent is not None:
                    # The ref goes back, and then elsewhere.
                    git(path, "update-ref", "refs/heads/main", str(parent))
                    for lost in ids_of(told):
                        del ids[lost]
            elif kind == "catch up":
                assert catch_up(path)
            else:
                (path / INDEX_NAME).unlink(missing_ok=True)
            repository = open_repository(path)
            tip = repository.tip()
            for device in [*devices, UNKNOWN]:
                assert bare(listed(path, device)) == walked(path, device)
            with open_index(repository) as index:
                absent = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(3)]
                assert index.find_backup_ids([*ids, *absent], tip) == ids
        for device in devices:
            assert [v.sha for v in listed(path, device)] == (
                log_of_device(path, device) if repository.tip() else []
            )
            for version in listed(path, device, details=True):
                assert version.detail == walked_detail(repository, version.sha, device)


def small_store(store: Path, *, commits: int = 120, devices: int = 5) -> tuple[Path, list[str]]:
    """A repository written by the store, with its index."""
    path, names = store / f"{uuid.uuid4()}.git", device_ids(devices)
    with open_for_writing(path) as writer:
        writer.commit_backups(random_backups(names, commits, 1, labelled=True))
    assert catch_up(path)
    return path, names


def test_it_tells_the_tree_of_each_version(store: Path) -> None:
    path, devices = small_store(store)
    for kept in ("by the writer", "by a rebuild"):
        versions = {device: listed(path, device) for device in devices}
        assert all(versions.values())
        for device, each in versions.items():
            names = [f"{version.sha}:{device}" for version in each]
            found = [version.tree and version.tree.hex() for version in each]
            assert found == git(path, "rev-parse", *names).decode().split(), kept
        (path / INDEX_NAME).unlink()
        assert catch_up(path)


def test_an_index_that_is_complete_needs_no_walk(store: Path, uncached: list[str]) -> None:
    path, devices = small_store(store)
    for device in [*devices, UNKNOWN]:
        listed(path, device)
    assert uncached == []


def test_built_while_it_is_behind_ahead_and_elsewhere(store: Path, uncached: list[str]) -> None:
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(5)
    write_linear(path, devices, 300)
    shas = ids_of_main(path)
    main = open_repository(path)
    assert not open_index(main).is_complete(main.tip())
    with open_index(main) as index:
        assert index.catch_up(shas[100])
        # Behind: the rows and the walk are merged. Ahead: the rows up to the tip.
        for tip in (shas[0], shas[60], shas[100], shas[101], shas[250], shas[-1]):
            for device in devices:
                expected = [v.sha for v in walk_at(main, device, tip)]
                assert [v.sha for v in index.versions(device, tip=tip)] == expected
                assert [v.sha for v in index.versions(device, tip=tip, limit=3)] == expected[:3]
                if expected:
                    after = index.versions(device, tip=tip, before=expected[0][:10], limit=2)
                    assert [v.sha for v in after] == expected[1:3]
                for newer, one in list(pairwise([None, *expected]))[::3]:
                    following = index.next_version(device, str(one), tip=tip)
                    assert (following and following.sha) == newer
        assert uncached == []
    # Elsewhere: the file's commit is not below the tip, nor the tip below it.
    git(path, "commit-tree", "-m", "x", "main^{tree}")
    orphan = git(path, "commit-tree", "-m", "x", "main^{tree}").decode().strip()
    git(path, "update-ref", "refs/heads/main", orphan)
    assert_equals_git(path, devices)
    assert uncached
    assert catch_up(path)
    uncached.clear()
    for device in devices:
        assert [v.sha for v in listed(path, device)] == [orphan]
    assert uncached == []


def walk_at(repository: TenantRepository, device: str, tip: str) -> list[Version]:
    oid = repository.git[tip].id
    return list(_walk(repository, device, tip=oid))


@pytest.mark.parametrize("merged", [False, True])
def test_the_next_version_costs_one_row(
    store: Path, merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    if merged:
        write_merged(path, devices, 40, 3)
    repository = create_repository(path)
    Writer(repository).commit_backups(random_backups(devices, 40, 1))
    rows: list[object] = []

    def read(row: tuple[object, ...]) -> Version:
        rows.append(row)
        return version_of(row)

    monkeypatch.setattr("worker.store.history.index_file.version_of", read)
    with open_index(repository) as index:
        for device in devices:
            versions = walked(path, device)
            for newer, one in pairwise([None, *versions]):
                assert one is not None
                rows.clear()
                following = index.next_version(device, one.sha, tip=repository.tip())
                assert (following and following.sha) == (newer and newer.sha)
                assert len(rows) == (newer is not None)


def test_before_must_be_a_version_of_the_device(store: Path) -> None:
    path, devices = small_store(store)
    other = listed(path, devices[1])[0].sha
    with pytest.raises(KeyError):
        listed(path, devices[0], before=other)
    with pytest.raises(KeyError):
        listed(path, devices[0], before="0" * 40)


def test_pages_follow_each_other_without_gap_or_repeat(store: Path) -> None:
    path, devices = small_store(store)
    expected = [version.sha for version in walked(path, devices[0])]
    pages: list[str] = []
    while page := listed(path, devices[0], limit=7, before=pages[-1] if pages else None):
        pages += [version.sha for version in page]
    assert pages == expected


def test_configuration_changes_only(store: Path) -> None:
    path, devices = small_store(store)
    repository = open_repository(path)
    for device in devices:
        expected = [
            version.sha
            for version in walked(path, device)
            if walked_detail(repository, version.sha, device).export_changed
        ]
        for _ in range(2):  # looked up; then kept
            found = listed(path, device, config_changes_only=True)
            assert [version.sha for version in found] == expected
            assert all(version.detail and version.detail.export_changed for version in found)
        assert len(expected) < len(walked(path, device))
        limited = listed(path, device, config_changes_only=True, limit=2)
        assert [version.sha for version in limited] == expected[:2]


def dated(device: str, day: int, servers: int) -> Backup:
    """A capture with a header of that day."""
    text = f"# 2025-09-{day:02} 10:00:00 by RouterOS 7.16\n/ip dns\nset servers=10.0.0.{servers}\n"
    return Backup(str(uuid.uuid4()), device, text.encode(), None, "poll")


def test_the_last_changes_are_found_without_reading_all_versions(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, [device] = store / f"{uuid.uuid4()}.git", device_ids(1)
    # 10 polls before each change and after the last one; the first of all is one.
    with open_for_writing(path) as writer:
        writer.commit_backups([dated(device, 10 + n % 11, n // 11) for n in range(55)])
    changes = [version.sha for version in walked(path, device)][10::11]
    rows: list[object] = []

    def read(row: tuple[object, ...]) -> Version:
        rows.append(row)
        return version_of(row)

    monkeypatch.setattr("worker.store.history.index_file.version_of", read)
    wanted: list[tuple[dict[str, object], list[str], int]] = [
        ({"limit": 1}, changes[:1], 11),
        ({"limit": 2}, changes[:2], 22),
        ({"limit": 1, "before": changes[0]}, changes[1:2], 12),
        ({}, changes, 55),
    ]
    for options, expected, most in wanted:
        rows.clear()
        found = listed(path, device, config_changes_only=True, **options)
        assert [version.sha for version in found] == expected
        assert len(rows) == most


def test_when_the_configurations_of_devices_last_changed(store: Path) -> None:
    """Of a file that is complete, ahead, behind, built anew, and absent."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(4)
    repository = create_repository(path)
    writer = Writer(repository)
    for number, backup in enumerate(random_backups(devices, 60, 2)):
        writer.commit_backups([backup], now_s=START_S + number)
    writer.close()

    def oracle(tip: str) -> dict[str, dt.datetime]:
        return {
            device: next(
                version.committed_at
                for version in walk_at(repository, device, tip)
                if walked_detail(repository, version.sha, device).export_changed
            )
            for device in devices
        }

    def found(tip: str) -> dict[str, dt.datetime]:
        with open_index(open_repository(path)) as index:
            found = index.last_changes(tip)
            some = index.last_changes(tip, [*devices[:2], UNKNOWN])
        assert some == {device: at for device, at in found.items() if device in devices[:2]}
        return found

    shas = ids_of_main(path)
    newest = {device: walked(path, device)[0].committed_at for device in devices}
    assert found(shas[0]) == oracle(shas[0]) != newest
    assert found(shas[20]) == oracle(shas[20])
    commit_without_index(repository, random_backups(devices[:3], 9, 3))
    tip = ids_of_main(path)[0]
    assert found(tip) == oracle(tip) != oracle(shas[0])
    assert catch_up(path, anew=True)
    assert found(tip) == {}
    listed(path, devices[0], details=True)
    assert found(tip) == {devices[0]: oracle(tip)[devices[0]]}
    (path / INDEX_NAME).unlink()
    assert found(tip) == {}


@pytest.mark.parametrize("order", [1, -1])
def test_a_foreign_commit_has_each_devices_own_line_counts(store: Path, order: int) -> None:
    """One commit may change several devices, and a merge may be a version of several."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    stream = Stream()

    def commit(when_s: int, lines: Sequence[int], parents: list[int] | None = None) -> int:
        files: dict[str, bytes | None] = {
            f"{device}/export.rsc": b"".join(b"%d %d\n" % (when_s, n) for n in range(count))
            for device, count in zip(devices, lines, strict=True)
            if count
        }
        return stream.commit(files, when_s=START_S + when_s, parents=parents)

    root = commit(0, [1, 2, 3])
    commit(10, [4, 1, 7])
    main = commit(20, [0, 6, 2])
    side = commit(30, [3, 0, 9], parents=[root])
    commit(40, [5, 8, 1], parents=[main, side])
    commit(50, [2, 2, 0])
    stream.write(path)
    expected = {
        device: [walked_detail(open_repository(path), v.sha, device) for v in walked(path, device)]
        for device in devices
    }
    assert len({detail for details in expected.values() for detail in details}) > 10
    assert catch_up(path)
    for device in [*devices[::order], *devices]:  # looked up; then kept
        found = listed(path, device, details=True)
        assert [version.detail for version in found] == expected[device]
    assert verify_repository(path).findings == []


def test_line_counts_that_were_kept_wrong_are_found(store: Path) -> None:
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(1)
    write_linear(path, devices, 5)
    assert catch_up(path)
    [newest, *_] = listed(path, devices[0], details=True)
    with closing(IndexFile(path / INDEX_NAME, write=True)) as file:
        file.add_details(
            pack_uuid(devices[0]), {bytes.fromhex(newest.sha): Detail(True, 77, 0, 1, None, None)}
        )
    assert [finding.kind for finding in verify_repository(path).findings] == ["index"]
    (path / INDEX_NAME).unlink()


def test_a_tip_that_is_older_than_the_newest_merge(store: Path, uncached: list[str]) -> None:
    """Rows up to a merge stand in git's order of that merge, which is not that of an older tip."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(4)
    write_linear(path, devices, 40)
    older = ids_of_main(path)
    side = git(path, "commit-tree", "-m", "side", "-p", older[20], f"{older[10]}^{{tree}}")
    merge = git(
        path, "commit-tree", "-m", "merge", "-p", older[0], "-p", side.decode().strip(),
        f"{older[3]}^{{tree}}",
    )  # fmt: skip
    git(path, "update-ref", "refs/heads/main", merge.decode().strip())
    assert catch_up(path)
    repository = open_repository(path)
    for tip in older[::3]:
        with open_index(repository) as index:
            for device in devices:
                oracle = [v.sha for v in _walk(repository, device, tip=pygit2.Oid(hex=tip))]
                assert [v.sha for v in index.versions(device, tip=tip)] == oracle
    assert uncached, "the rows answered for a tip of which they do not know the order"


def test_a_merge_above_the_index(store: Path, uncached: list[str]) -> None:
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(4)
    write_linear(path, devices, 40)
    assert catch_up(path)
    shas = ids_of_main(path)
    side = git(path, "commit-tree", "-m", "side", "-p", shas[20], f"{shas[10]}^{{tree}}")
    merge = git(
        path, "commit-tree", "-m", "merge", "-p", shas[0], "-p", side.decode().strip(),
        f"{shas[3]}^{{tree}}",
    )  # fmt: skip
    git(path, "update-ref", "refs/heads/main", merge.decode().strip())
    assert_equals_git(path, devices)
    assert catch_up(path)
    repository = create_repository(path)
    backups = random_backups(devices, 10, 5)
    Writer(repository).commit_backups(backups)
    assert_equals_git(path, devices)
    assert catch_up(path)
    uncached.clear()
    for device in devices:
        assert [v.sha for v in listed(path, device)] == log_of_device(path, device)
    assert uncached == []


def test_progress_and_interruption(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_keeper, "_CATCH_UP_BATCH", 200)
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    write_linear(path, devices, 450)
    calls: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):

        def interrupt(done: int, total: int) -> None:
            calls.append((done, total))
            if done > 200:
                raise KeyboardInterrupt

        catch_up(path, progress=interrupt)
    assert_equals_git(path, devices)
    calls.clear()
    assert catch_up(path, progress=lambda done, total: calls.append((done, total)))
    # It went on where the killed one stopped.
    assert calls[-1] == (250, 250)
    assert_equals_git(path, devices)


def test_damage_is_marked_and_mended_by_the_next_writer(store: Path, uncached: list[str]) -> None:
    path, devices = small_store(store)
    with (path / INDEX_NAME).open("r+b") as file:
        file.truncate(5000)
    assert_equals_git(path, devices)
    assert (path / DAMAGE_MARK).exists()
    repository = open_repository(path)
    parent = str(repository.tip())
    backups = random_backups(devices, 5, 9)
    told = commit_without_index(repository, backups)
    with open_index(repository) as index:
        index.append(parent, told)  # left to the catch-up
        assert not index.is_complete(repository.tip())
        assert index.catch_up(repository.tip())
        assert index.is_complete(repository.tip())
    assert not (path / DAMAGE_MARK).exists()
    uncached.clear()
    for device in devices:
        listed(path, device)
    assert uncached == []


@pytest.mark.parametrize("what", ["directory", "garbage", "empty", "other format", "foreign"])
def test_whatever_stands_in_its_place(store: Path, what: str) -> None:
    path, devices = small_store(store, commits=20)
    place = path / INDEX_NAME
    if what == "other format":
        with sqlite3.connect(place) as db:
            db.execute("DROP TABLE state")
            db.execute("CREATE TABLE state (id INTEGER PRIMARY KEY, record BLOB)")
            db.execute("INSERT INTO state VALUES (1, x'02')")
        db.close()
    else:
        place.unlink()
        if what == "directory":
            place.mkdir()
        elif what == "foreign":
            with sqlite3.connect(place) as db:
                db.execute("CREATE TABLE other (x)")
            db.close()
        else:
            place.write_bytes(b"" if what == "empty" else b"garbage " * 1000)
    assert_equals_git(path, devices)
    backups = random_backups(devices, 3, 4)
    repository = open_repository(path)
    parent = str(repository.tip())
    told = commit_without_index(repository, backups) if what != "directory" else []
    with open_index(repository) as index:
        index.append(parent, told)
    assert_equals_git(path, devices)
    assert catch_up(path) is (what != "directory")
    assert_equals_git(path, devices)
    if what == "directory":
        place.rmdir()


@pytest.mark.parametrize("format_", [index_file.FORMAT - 1, index_file.FORMAT + 1])
def test_who_reads_leaves_the_index_of_another_release_to_its_workers(
    store: Path, format_: int
) -> None:
    """Old workers beside a new `confkeep http`, or the other way round: none makes the other rebuild what is sound."""
    path, devices = small_store(store, commits=20)
    place = path / INDEX_NAME
    with closing(sqlite3.connect(place)) as db, db:
        [row] = db.execute("SELECT * FROM state")
        db.execute("DELETE FROM state")
        told = with_crc((row[0], format_, *row[2:-1]))
        db.execute(f"INSERT INTO state VALUES ({','.join('?' * len(told))})", told)
    before = place.read_bytes()
    assert_equals_git(path, devices)
    assert verify_repository(path).findings == []
    assert place.read_bytes() == before
    assert not (path / DAMAGE_MARK).exists()
    assert catch_up(path)
    with open_index(open_repository(path)) as index:
        assert index.is_complete(open_repository(path).tip())
    assert_equals_git(path, devices)


@pytest.mark.parametrize("flips", [60, pytest.param(200, marks=pytest.mark.chaos)])
def test_no_flipped_bit_that_changes_an_answer_is_missed(flips: int, store: Path) -> None:
    """Anywhere in the file: rows, pages, schema, header. Whoever reads notices, or `verify` does."""
    path, devices = small_store(store, commits=150, devices=4)
    tip = open_repository(path).tip()
    ids = [each.backup_id for device in devices for each in walked(path, device) if each.backup_id]

    def answers() -> object:
        with open_index(open_repository(path)) as index:
            return (
                [
                    (version, version.tree)
                    for device in [*devices, UNKNOWN]
                    for version in index.versions(device, tip=tip, details=True)
                ],
                index.find_backup_ids(ids, tip),
                index.devices(tip),
                index.all_last_seen(tip),
                index.last_changes(tip),
                index.last_changes(tip, devices[:2]),
                index.suspects(tip),
            )

    place, rng = path / INDEX_NAME, random.Random(7)
    expected = answers()
    # Read once before: what an answer looks up is kept in the file.
    sound = place.read_bytes()
    noticed = 0
    for number in range(flips):
        damaged = bytearray(sound)
        for _ in range(rng.choice([1, 1, 1, 30])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        place.write_bytes(damaged)
        (path / DAMAGE_MARK).unlink(missing_ok=True)
        found = answers()
        noticed += (path / DAMAGE_MARK).exists()
        if found != expected:
            findings = verify_repository(path).findings
            assert {finding.kind for finding in findings} == {"index"}, number
    assert noticed > flips / 4
    (path / DAMAGE_MARK).unlink(missing_ok=True)
    place.write_bytes(sound)


@pytest.mark.parametrize(
    "change",
    [
        "versions SET lines_added=lines_added+1",
        "commits SET committed_s=committed_s+1",
        "devices SET seen_s=seen_s+1",
        "labels SET name='core2'",
        "own_names SET name='core2'",
    ],
)
def test_who_reads_all_devices_notices_a_row_that_does_not_fit_its_checksum(
    store: Path, change: str
) -> None:
    path, _devices = small_store(store, commits=30)
    repository = open_repository(path)
    tip = repository.tip()

    def answers() -> object:
        with open_index(repository) as index:
            return (
                index.devices(tip),
                index.all_last_seen(tip),
                index.labels(tip),
                index.own_names(tip),
            )

    expected = answers()
    with closing(sqlite3.connect(path / INDEX_NAME)) as file:
        file.execute(f"UPDATE {change}")
        file.commit()
    assert answers() == expected
    assert (path / DAMAGE_MARK).exists()
    assert catch_up(path)
    assert verify_repository(path).findings == []


def test_who_asks_for_last_changes_notices_a_row_that_does_not_fit_its_checksum(
    store: Path,
) -> None:
    path, _devices = small_store(store, commits=30)
    repository = open_repository(path)
    tip = repository.tip()
    with open_index(repository) as index:
        assert index.last_changes(tip)
    with closing(sqlite3.connect(path / INDEX_NAME)) as file:
        file.execute("UPDATE versions SET lines_added=lines_added+1")
        file.commit()
    with open_index(repository) as index:
        # None rather than a wrong one: it is derived, and the next writer makes it anew.
        assert index.last_changes(tip) == {}
    assert (path / DAMAGE_MARK).exists()
    assert catch_up(path)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM commits WHERE number=(SELECT max(number) FROM commits)",
        "DELETE FROM versions WHERE number=17",
        "DELETE FROM devices WHERE device=(SELECT min(device) FROM devices)",
        "UPDATE devices SET seen_s=seen_s+1",
        "UPDATE versions SET lines_added=lines_added+1 WHERE number=119",
        "UPDATE versions SET suspect='the export is empty' WHERE number=119",
        "UPDATE versions SET number=number-1 WHERE number=50",
        "UPDATE versions SET tree=(SELECT tree FROM versions WHERE number=51) WHERE number=50",
        "UPDATE versions SET tree=NULL WHERE number=50",
        "UPDATE commits SET message=x'78' WHERE number=3",
        "UPDATE commits SET backup_id=NULL WHERE number=3",
        "UPDATE commits SET committed_s=committed_s+1 WHERE number=3",
        "INSERT INTO versions SELECT min(device), 119, 119, NULL, 0, 0, 0, 0, 0, NULL, 0 FROM versions",
        "UPDATE own_names SET name='core2'",
        "UPDATE labels SET name='core2'",
        "DELETE FROM labels",
        "INSERT INTO labels VALUES (x'00', 'core2', NULL, NULL, NULL, 0)",
    ],
)
def test_rows_that_fit_their_checksums_but_not_git(
    store: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _devices = small_store(store)
    assert verify_repository(path).findings == []
    # Each row's checksum is taken for right, as if the row had been written so.
    for module in (index_file, index_rows):
        monkeypatch.setattr(module, "checked", lambda row: row[:-1])
    with closing(sqlite3.connect(path / INDEX_NAME)) as db, db:
        assert db.execute(change).rowcount
    assert {finding.kind for finding in verify_repository(path).findings} == {"index"}
    (path / INDEX_NAME).unlink()


def torn(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """What a power cut leaves of a file that was not synced: any mixture of old and new pages."""
    page = 4096
    return b"".join(
        rng.choice([new[at : at + page], old[at : at + page].ljust(page, b"\0")])
        for at in range(0, len(new), page)
    )


def another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine went down and came up again."""
    monkeypatch.setattr(index_file, "boot_id", lambda: b"another boot")


def test_a_power_cut_never_changes_an_answer(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the unsynced batches is there: the file is not used, and the next writer mends it."""
    path, devices = small_store(store, commits=300, devices=6)
    place, rng = path / INDEX_NAME, random.Random(3)
    repository = open_repository(path)
    ids: dict[str, str] = {}
    with open_index(repository) as index:

        def batch() -> None:
            parent = str(repository.tip())
            backups = random_backups(devices, 20, rng.getrandbits(32))
            told = commit_without_index(repository, backups)
            ids.update(ids_of(told))
            index.append(parent, told)

        batch()
        batch()  # the file has the mark from here on
        old = place.read_bytes()
        batch()
        batch()
        new = place.read_bytes()
        assert index.is_complete(repository.tip())
    tip = repository.tip()
    expected = {device: [v.sha for v in walked(path, device)] for device in devices}
    another_boot(monkeypatch)
    for _ in range(40):
        place.write_bytes(torn(old, new, rng))
        (path / DAMAGE_MARK).unlink(missing_ok=True)
        device = rng.choice(devices)
        with open_index(open_repository(path)) as index:
            assert [v.sha for v in index.versions(device, tip=tip)] == expected[device]
            assert index.find_backup_ids(list(ids), tip) == ids
        assert verify_repository(path).findings == []
    assert catch_up(path)
    with open_index(repository) as index:
        assert index.is_complete(tip)
    assert_equals_git(path, devices)


def test_what_was_closed_is_whole_after_a_reboot(
    store: Path, uncached: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns of one batch and of several; no batch after the reboot waits for a rebuild."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    for boot, batches in enumerate([1, 1, 2, 5, 1]):
        monkeypatch.setattr(index_file, "boot_id", lambda boot=boot: b"boot %d" % boot)
        with pytest.MonkeyPatch.context() as patch:
            if boot:
                # A rebuild would begin with it.
                patch.setattr(index_keeper, "delete_file", None)
            with open_for_writing(path) as writer:
                for _ in range(batches):
                    writer.commit_backups(random_backups(devices, 4, 10 * boot))
            tip = writer.repository.tip()
        another_boot(monkeypatch)
        with open_index(open_repository(path)) as index:
            assert index.is_complete(tip), batches
    assert_equals_git(path, devices)
    assert uncached == []


@pytest.mark.parametrize("distrusted", [False, True])
@pytest.mark.parametrize("batches", [1, 2, 3])
def test_what_is_not_closed_after_several_batches_is_built_anew(
    store: Path, batches: int, distrusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was killed, and then the machine: what was synced is whole, and no more."""
    path, devices = small_store(store, commits=20)
    repository = open_repository(path)
    index = open_index(repository)
    for number in range(batches):
        parent = str(repository.tip())
        backups = random_backups(devices, 4, 100 + number)
        index.append(parent, commit_without_index(repository, backups))
    # The same boot: nothing is lost with the process.
    with open_index(open_repository(path)) as other:
        assert other.is_complete(repository.tip())
    if distrusted:
        index.close(sound=False)
    another_boot(monkeypatch)
    with open_index(open_repository(path)) as other:
        assert other.is_complete(repository.tip()) == (batches == 1)
    assert not (path / DAMAGE_MARK).exists()
    before = (path / INDEX_NAME).stat().st_ino
    assert catch_up(path)
    assert ((path / INDEX_NAME).stat().st_ino == before) == (batches == 1)
    assert_equals_git(path, devices)


def test_what_is_written_without_a_mark_is_synced(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting the mark, taking it away, and what goes without it."""
    path, devices = small_store(store, commits=20)
    said: list[tuple[int, bool]] = []
    store_root = IndexFile._store_root

    def noted(file: IndexFile, root: Root) -> None:
        before = file.root.boot is not None
        store_root(file, root)
        (level,) = file._db.execute("PRAGMA synchronous").fetchone()
        said.append((level, before and root.boot is not None))

    monkeypatch.setattr(IndexFile, "_store_root", noted)
    with open_for_writing(path) as writer:
        for number in range(4):
            writer.commit_backups(random_backups(devices, 4, 100 + number))
    full, off = 2, 0
    assert said == [(full, False), (full, False), (off, True), (off, True), (full, False)]


def test_no_history_reads_files_whose_versions_are_known(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks suspect is kept when it is known, as line counts are."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(2)
    exports = [b"", b"# by RouterOS 7\n/ip address\nadd address=10.0.0.1/24\n", b"<html>"]
    with open_for_writing(path) as writer:
        for device in devices:
            for export in exports:
                writer.commit_backups([Backup(str(uuid.uuid4()), device, export, None, "m")])
    monkeypatch.setattr(reader, "read_pair", None)
    for device in devices:
        said = [
            version.detail and version.detail.suspect
            for version in listed(path, device, details=True)
        ]
        assert said == ["the export is an HTML page", None, "the export is empty"]


def test_which_newest_versions_are_suspect(store: Path) -> None:
    """Of a file that is complete, ahead, behind, built anew, and looked at since."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    repository = create_repository(path)
    page = "the export is an HTML page"

    def backups(*exports: bytes) -> list[Backup]:
        pairs = zip(devices, exports, strict=False)
        return [Backup(str(uuid.uuid4()), device, each, None, "m") for device, each in pairs]

    def found(tip: str) -> dict[str, str]:
        with open_index(open_repository(path)) as index:
            found = index.suspects(tip)
            some = index.suspects(tip, [devices[0], UNKNOWN])
        assert some == {device: why for device, why in found.items() if device == devices[0]}
        return found

    with open_for_writing(path) as writer:
        writer.commit_backups(backups(b"<html>", b"/ip\n", b""))
    old = ids_of_main(path)[0]
    assert found(old) == {devices[0]: page, devices[2]: "the export is empty"}
    with open_for_writing(path) as writer:
        writer.commit_backups(backups(b"/ip\n", b"<html>"))
    assert found(old) == {devices[0]: page, devices[2]: "the export is empty"}
    tip = ids_of_main(path)[0]
    assert found(tip) == {devices[1]: page, devices[2]: "the export is empty"}
    commit_without_index(repository, backups(b"<html> \n", b"/user\n"))
    tip = ids_of_main(path)[0]
    assert found(tip) == {devices[0]: page, devices[2]: "the export is empty"}
    assert catch_up(path, anew=True)
    assert found(tip) == {}
    listed(path, devices[0], details=True)
    assert found(tip) == {devices[0]: page}


def test_the_devices_of_a_tenant_in_any_state(store: Path) -> None:
    """Complete, behind, ahead, absent, with merges: how many versions, and the newest of each."""
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(5)
    write_merged(path, devices, 50, 3)
    repository = create_repository(path)
    Writer(repository).commit_backups(random_backups(devices, 30, 1))
    shas = ids_of_main(path)
    for known in (None, shas[20], shas[0]):
        (path / INDEX_NAME).unlink(missing_ok=True)
        with open_index(repository) as index:
            if known is not None:
                assert index.catch_up(known)
            for tip in (shas[0], shas[10], shas[25]):
                found = index.devices(tip)
                oracle = {
                    device: versions
                    for device in devices
                    if (versions := walk_at(repository, device, tip))
                }
                assert {d: (many, bare([v])[0]) for d, (many, v) in found.items()} == {
                    device: (len(versions), versions[0]) for device, versions in oracle.items()
                }
                at = [shas.index(newest.sha) for _many, newest in found.values()]
                assert at == sorted(at)
    assert open_index(repository).devices(None) == {}


def test_readers_who_may_not_write(store: Path, uncached: list[str]) -> None:
    """A file without write permission, in a folder without it: the answer is there all the same."""
    path, devices = small_store(store, commits=60)
    (path / INDEX_NAME).chmod(0o444)
    path.chmod(0o555)
    try:
        for device in devices:
            assert listed(path, device, details=True)
        assert uncached == []
        (path / INDEX_NAME).chmod(0o000)
        assert_equals_git(path, devices)
    finally:
        path.chmod(0o755)


def test_a_file_that_another_process_is_writing(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, devices = small_store(store, commits=60)
    monkeypatch.setattr("worker.store.history.index_file._BUSY_S", 0.05)
    db = sqlite3.connect(path / INDEX_NAME, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        assert_equals_git(path, devices)
        repository = open_repository(path)
        with open_index(repository) as index:
            index.append(str(repository.tip()), [])
            assert not index.is_complete(repository.tip())
        # Being busy is no damage.
        assert not (path / DAMAGE_MARK).exists()
    finally:
        db.close()


def test_a_writer_whose_file_was_begun_anew(store: Path, uncached: list[str]) -> None:
    """A worker keeps the file open between batches; `confkeep reindex` replaces it meanwhile."""
    path, devices = small_store(store, commits=30)
    repository = open_repository(path)
    with open_index(repository) as index:
        for round_number in range(3):
            parent = str(repository.tip())
            if round_number == 1:
                assert catch_up(path, anew=True)
            elif round_number == 2:
                (path / INDEX_NAME).unlink()
                assert index.catch_up(parent)
            backups = random_backups(devices, 4, 100 + round_number)
            index.append(parent, commit_without_index(repository, backups))
            assert index.is_complete(repository.tip())
            listed(path, devices[0])
    assert uncached == []
    assert_equals_git(path, devices)


def test_ids_and_names_while_the_file_is_behind_and_ahead(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids exactly up to the tip; labels and names as the newest commits up to it say."""
    monkeypatch.setattr(index_keeper, "_CATCH_UP_BATCH", 2)
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(2)
    exports = [b"/system identity set name=own%d\n" % number for number in range(12)]
    backups = [
        Backup(str(uuid.uuid4()), devices[n % 2], export, None, "m", labels=Labels(f"label{n}"))
        for n, export in enumerate(exports)
    ]
    repository = create_repository(path)
    shas = [entry.version.sha for entry in commit_without_index(repository, backups)]
    ids = {backup.backup_id: sha for backup, sha in zip(backups, shas, strict=True)}
    known = 6
    with open_index(repository) as index:
        assert index.catch_up(shas[known])
        for number, tip in enumerate(shas):
            there = backups[: number + 1]
            found = index.find_backup_ids(ids, tip)
            assert found == {backup.backup_id: ids[backup.backup_id] for backup in there}
            if number >= known:
                labels = {backup.device_id: backup.labels for backup in there}
                assert index.labels(tip, devices) == index.labels(tip) == labels
                names = {backup.device_id: own_name(backup.export) for backup in there}
                assert index.own_names(tip) == index.own_names(tip, devices) == names


def test_an_id_of_two_commits_is_found_in_the_newest(store: Path) -> None:
    """Another program may have picked a commit once more."""
    path, [device] = small_store(store, commits=3, devices=1)
    main = ids_of_main(path)
    raw = git(path, "cat-file", "commit", main[1]).replace(main[2].encode(), main[0].encode())
    picked = git(path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).decode().strip()
    git(path, "update-ref", "refs/heads/main", picked)
    [backup_id] = {each.backup_id for each in walked(path, device) if each.sha == picked}
    for state in ("behind", "complete", "absent"):
        if state == "complete":
            assert catch_up(path)
        elif state == "absent":
            (path / INDEX_NAME).unlink()
        with open_index(open_repository(path)) as index:
            assert index.find_backup_ids([str(backup_id)], picked) == {backup_id: picked}, state


def test_a_row_that_claims_another_commits_backup_is_seen_through(store: Path) -> None:
    """As where an index of SQLite's is damaged: the commit's own header decides."""
    path, _devices = small_store(store, commits=3, devices=1)
    newest, middle, _oldest = ids_of_main(path)
    with closing(sqlite3.connect(path / INDEX_NAME)) as db, db:
        _first, right, last = db.execute("SELECT * FROM commits ORDER BY number").fetchall()
        wrong = index_rows.with_crc((*last[:4], right[4], last[5]))
        db.execute(index_rows.PUT_COMMIT.replace("INSERT", "REPLACE"), wrong)
    backup_id = unpack_uuid(right[4])
    with open_index(open_repository(path)) as index:
        assert index.find_backup_ids([backup_id], newest) == {backup_id: middle}
    (path / INDEX_NAME).unlink()


def test_folders_that_are_no_devices(store: Path) -> None:
    path, devices = store / f"{uuid.uuid4()}.git", device_ids(3)
    stream = Stream()
    for number in range(12):
        device = devices[number % 3]
        stream.commit(
            {f"{device}/export.rsc": b"%d\n" % number, "README": b"%d" % (number // 4),
             f"{'0' * (number + 1)}/x": b"x", device.upper() + "/export.rsc": b"%d" % number},
            when_s=number,
        )  # fmt: skip
    stream.write(path)
    assert catch_up(path)
    assert_equals_git(path, devices)
