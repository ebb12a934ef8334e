"""What a writer asks of the history index in a turn: the right answer, in few transactions."""

from __future__ import annotations

import random
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.store.test_labels import CORE, EDGE, capture
from worker.engine.directory import directory_of
from worker.store.history.index import DAMAGE_MARK, INDEX_NAME, open_index
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import open_repository
from worker.store.writing.commit import open_for_writing


def commit(path: Path, *backups: Backup) -> list[str]:
    """As a turn does: the index's file is closed in the end."""
    with open_for_writing(path) as writer:
        return [answer.sha for answer in writer.commit_backups(backups)]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is asked of SQLite from now on."""
    asked: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return asked


def test_a_turn_of_one_reads_the_index_once_and_writes_it_once(
    path: Path, statements: list[str]
) -> None:
    commit(path, capture(CORE, 1))
    statements.clear()
    commit(path, capture(CORE, 2))
    ends = [one for one in statements if one.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
    assert ends == ["BEGIN", "ROLLBACK", "BEGIN IMMEDIATE", "COMMIT"]
    assert [one for one in statements if "synchronous" in one] == ["PRAGMA synchronous=FULL"]


def test_the_directory_is_read_from_an_index_that_is_opened_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(path, capture(CORE, 1), capture(EDGE, 2, name="edge"))
    connect, opened = sqlite3.connect, list[object]()

    def counted(*arguments: object, **options: object) -> sqlite3.Connection:
        opened.append(arguments)
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        return connection

    monkeypatch.setattr(sqlite3, "connect", counted)
    found = directory_of(open_repository(path))
    assert {device.called.name for device in found} == {"own1", "edge"}
    assert len(opened) == 1


def test_the_journal_stays_between_transactions(path: Path) -> None:
    for number in range(2):
        commit(path, capture(CORE, number))
        journal = (path / f"{INDEX_NAME}-journal").read_bytes()
        assert len(journal) > 4096
        assert journal[:28] == bytes(28)


def _behind(path: Path) -> None:
    kept = (path / INDEX_NAME).read_bytes()
    commit(path, capture(EDGE, 8, name="edge 2"))
    (path / INDEX_NAME).write_bytes(kept)


@pytest.mark.parametrize(
    "happens",
    [
        lambda path: None,
        lambda path: (path / INDEX_NAME).unlink(),
        lambda path: (path / INDEX_NAME).write_bytes(b"no database at all" * 300),
        lambda path: (path / DAMAGE_MARK).touch(),
        _behind,
    ],
    ids=["complete", "absent", "damaged", "marked", "behind"],
)
def test_what_a_batch_has_to_know_is_what_git_tells(
    path: Path, happens: Callable[[Path], object]
) -> None:
    first = capture(CORE, 1, name="core")
    (sha,) = commit(path, first)
    commit(path, capture(EDGE, 2))
    happens(path)
    asked = {first.backup_id: CORE, str(uuid.uuid4()): EDGE}
    repository = open_repository(path)
    with open_index(repository) as index:
        tip = str(repository.tip())
        for device_ids_of in (asked, {backup: asked[backup] for backup in list(asked)[1:]}):
            known = index.known_before(device_ids_of, tip)
            devices = set(device_ids_of.values())
            assert known.commits == ({first.backup_id: sha} if CORE in devices else {})
            assert known.labels == index.labels(tip, devices)
            assert known.own_names == index.own_names(tip, devices)
            assert known.own_names[EDGE] == ("own8" if happens is _behind else "own2")
            assert index.is_complete(tip)


def test_a_damaged_index_lets_no_backup_in_twice(path: Path) -> None:
    """Also where the damage is in SQLite's own index: in it, one id out of its order hides another one."""
    backups = [capture(device, number) for number in range(150) for device in (CORE, EDGE)]
    shas = dict(zip((each.backup_id for each in backups), commit(path, *backups), strict=True))
    tip = shas[backups[-1].backup_id]
    place, mark = path / INDEX_NAME, path / DAMAGE_MARK
    sound = place.read_bytes()
    ids = {uuid.UUID(each).bytes for each in shas}
    # Its pages, leaves and those above them, begin with their kinds.
    pages = [
        at
        for at in range(0, len(sound), 4096)
        if sound[at] in (2, 10) and sum(each in sound[at : at + 4096] for each in ids) > 0
    ]
    assert {sound[at] for at in pages} == {2, 10}
    chance = random.Random(3)
    noticed = 0
    for at in chance.choices([*pages, *[at for at in pages if sound[at] == 2] * 3], k=30):
        damaged = bytearray(sound)
        hidden = [each for each in ids if each in sound[at : at + 4096]]
        damaged[sound.index(chance.choice(hidden), at) + chance.randrange(2)] ^= (
            1 << chance.randrange(8)
        )
        place.write_bytes(damaged)
        mark.unlink(missing_ok=True)
        with open_index(open_repository(path)) as index:
            known = index.known_before(dict.fromkeys(shas, CORE), tip)
        assert known.commits == shas
        noticed += place.read_bytes() != damaged or mark.exists()
    assert noticed == 30
    place.write_bytes(sound)
    mark.unlink(missing_ok=True)
