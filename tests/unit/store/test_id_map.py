"""The map of rewritten ids: a flipped bit is told, and never lets a backup be committed twice."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest

from confkeep.errors import SideFileDamaged
from tests.damage import flipped
from tests.failpoints import killed_at
from tests.histories import START_S, device_ids, random_backups
from tests.judge import backup_ids, git
from worker.store.git import durable
from worker.store.repository import id_map
from worker.store.repository.backup import Backup
from worker.store.repository.id_map import IdMap, Rewrite
from worker.store.repository.reader import find_commit
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Kind
from worker.store.writing.commit import Writer

DEVICES = device_ids(2)
NOW_S = START_S + 1_000
GRACE_S = 86_400
POLICY = policy_of({"keep_last": 2, "binary_keep_last": 1})

#: What files of the first release have.
FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS rewrite (old_tip BLOB NOT NULL, new_tip BLOB, made_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS commits (
    old BLOB PRIMARY KEY, new BLOB, removed_s INTEGER, CHECK ((new IS NULL) = (removed_s IS NOT NULL))
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commits_new ON commits (new);
CREATE TABLE IF NOT EXISTS backups (
    backup_id BLOB PRIMARY KEY, device_id BLOB, sha BLOB NOT NULL, committed_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS binaries (
    backup_id BLOB PRIMARY KEY, removed_s INTEGER NOT NULL
) WITHOUT ROWID;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a repository is to be that nobody judges at the end."""
    return tmp_path / "a.git"


def rewritten(path: Path, count: int = 30, runs: int = 2) -> tuple[list[Backup], list[str]]:
    """A repository that was rewritten; the backups that were ever committed, and their first ids."""
    backups = random_backups(DEVICES, count, 5)
    shas: list[str] = []
    for run in range(runs):
        some = backups[run * count // runs : (run + 1) * count // runs]
        answers = Writer(create_repository(path)).commit_backups(some, now_s=NOW_S + run)
        shas += [answer.sha for answer in answers]
        apply_retention(create_repository(path), POLICY, now_s=NOW_S + run, grace_s=GRACE_S)
    return backups, shas


def kinds(path: Path) -> set[Kind]:
    return {finding.kind for finding in verify_repository(path).findings}


class Asked:
    """Each single answer of a map; each may be refused by itself."""

    def __init__(self, backups: Iterable[Backup], shas: Iterable[str]) -> None:
        rng = random.Random(3)
        self.ids = [backup.backup_id for backup in backups]
        # Also what is in no map: that it is not there is an answer as well.
        self.ids += [str(uuid.UUID(int=rng.getrandbits(128))) for _ in self.ids]
        self.shas = [*shas, *(rng.randbytes(20).hex() for _ in self.ids), "0000", "ffff"]

    def answers(self, file: Path) -> dict[str, object]:
        """By question; `None` for one that was refused."""
        found: dict[str, object] = {}
        try:
            opened = IdMap(file)
        except SideFileDamaged:
            return {}
        with contextlib.closing(opened) as ids:
            for name in self.ids:
                with contextlib.suppress(SideFileDamaged):
                    found[f"removed {name}"] = ids.removed_backups([name])
                with contextlib.suppress(SideFileDamaged):
                    found[f"binary {name}"] = ids.binary_removed_s(name)
            for sha in self.shas:
                with contextlib.suppress(SideFileDamaged):
                    found[f"fates {sha}"] = ids.fates(sha)
            with contextlib.suppress(SideFileDamaged):
                found["tips"] = ids.old_tip(), ids.new_tip()
        return found


def damage_of(file: Path) -> str | None:
    try:
        opened = IdMap(file)
    except SideFileDamaged as error:
        return str(error)
    with contextlib.closing(opened) as ids:
        return ids.damage()


def chosen_bits(data: bytes, rng: random.Random, count: int) -> list[int]:
    """Bits of everywhere; most of them of bytes that say something."""
    telling = [at for at, byte in enumerate(data) if byte]
    places = [rng.choice(telling) for _ in range(count * 9 // 10)]
    places += [rng.randrange(len(data)) for _ in range(count // 10)]
    return [at * 8 + rng.randrange(8) for at in places]


@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.chaos)])
def test_no_flipped_bit_changes_an_answer_and_each_that_would_is_told(
    count: int, path: Path
) -> None:
    backups, shas = rewritten(path)
    asked, file = Asked(backups[::3], shas[::3]), path / id_map.FILE_NAME
    sound, truth = file.read_bytes(), asked.answers(file)
    assert damage_of(file) is None
    assert len(truth) == 2 * len(asked.ids) + len(asked.shas) + 1
    told = 0
    for bit in chosen_bits(sound, random.Random(7), count):
        file.write_bytes(flipped(sound, bit))
        found, damage = asked.answers(file), damage_of(file)
        for question, answer in found.items():
            assert answer == truth[question], f"bit {bit}: {question} is answered {answer}"
        if len(found) < len(truth):
            assert damage, f"bit {bit}: an answer is refused, and nothing is found"
        told += damage is not None
    assert told > count // 2


def test_with_a_flipped_bit_nothing_is_committed_twice_and_verify_tells_it(path: Path) -> None:
    backups, _shas = rewritten(path)
    file, before = path / id_map.FILE_NAME, backup_ids(path)
    sound, refused = file.read_bytes(), 0
    for bit in chosen_bits(sound, random.Random(9), 25):
        file.write_bytes(flipped(sound, bit))
        told = Kind.IDS in kinds(path)
        try:
            answers = Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)
        except SideFileDamaged as error:
            assert told, f"bit {bit}"
            assert "operate.md" in error.hint
            refused += 1
        else:
            assert all(answer.replayed for answer in answers), f"bit {bit}"
        assert backup_ids(path) == before, f"bit {bit}"
    assert refused > 5
    file.write_bytes(sound)
    answers = Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)
    assert all(answer.replayed for answer in answers)
    assert verify_repository(path).findings == []


def test_what_needs_no_damaged_row_is_answered(path: Path) -> None:
    backups, _shas = rewritten(path)
    file = path / id_map.FILE_NAME
    removed = [b for b in backups if b.backup_id not in backup_ids(path)]
    victim = uuid.UUID(removed[0].backup_id).bytes
    file.write_bytes(file.read_bytes().replace(victim, bytes([victim[0] ^ 1]) + victim[1:]))
    answered = 0
    for backup in removed:
        with contextlib.suppress(SideFileDamaged):
            (answer,) = Writer(create_repository(path)).commit_backups([backup], now_s=NOW_S)
            assert answer.replayed
            answered += 1
    assert len(removed) - 3 <= answered < len(removed)


def test_a_damaged_map_is_not_carried_on_with_new_checksums(path: Path) -> None:
    backups, _shas = rewritten(path)
    file = path / id_map.FILE_NAME
    sound = file.read_bytes()
    gone = next(b for b in backups if b.backup_id not in backup_ids(path))
    packed = uuid.UUID(gone.backup_id).bytes
    damaged = sound.replace(packed, packed[:-1] + bytes([packed[-1] ^ 1]))
    later = random_backups(DEVICES, 8, 6)
    Writer(create_repository(path)).commit_backups(later, now_s=NOW_S)
    tip = git(path, "rev-parse", "main")
    for data in (damaged, b"", b"no database"):
        file.write_bytes(data)
        with pytest.raises(SideFileDamaged):
            apply_retention(create_repository(path), POLICY, now_s=NOW_S + 9, grace_s=GRACE_S)
        assert file.read_bytes() == data
        assert git(path, "rev-parse", "main") == tip
        assert kinds(path) == {Kind.IDS}


def test_a_damaged_map_beside_the_one_that_counts_is_told(path: Path) -> None:
    rewritten(path)
    (kept, *_others) = sorted(path.glob(f"{id_map.BEFORE_PREFIX}*"))[::-1]
    sound = kept.read_bytes()
    kept.write_bytes(sound[:-30] + bytes(30))
    assert kinds(path) == {Kind.IDS}
    with pytest.raises(SideFileDamaged):
        undo_retention(create_repository(path), now_s=NOW_S + 9)
    kept.write_bytes(sound)
    Writer(create_repository(path)).commit_backups(random_backups(DEVICES, 8, 6), now_s=NOW_S)
    with killed_at("rewritten"):
        apply_retention(create_repository(path), POLICY, now_s=NOW_S + 9, grace_s=GRACE_S)
    pending = path / id_map.PENDING_NAME
    data = pending.read_bytes()
    pending.write_bytes(data[:-30] + bytes(30))
    assert kinds(path) == {Kind.IDS, Kind.LEFTOVER}


def test_a_map_of_the_first_release_is_read_and_gets_checksums(path: Path) -> None:
    backups, shas = rewritten(path)
    asked, file = Asked(backups, shas), path / id_map.FILE_NAME
    truth = asked.answers(file)
    turn_back(file)
    assert asked.answers(file) == truth
    assert verify_repository(path).findings == []
    Writer(create_repository(path)).commit_backups(random_backups(DEVICES, 8, 6), now_s=NOW_S)
    apply_retention(create_repository(path), POLICY, now_s=NOW_S + 9, grace_s=GRACE_S)
    with contextlib.closing(IdMap(file)) as ids:
        assert ids.rows.summed
    answers = Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)
    assert all(answer.replayed for answer in answers)
    repository = open_repository(path)
    assert {k for k, v in asked.answers(file).items() if v} >= {k for k, v in truth.items() if v}
    find_commit(repository, git(path, "rev-parse", "main").decode().strip())
    assert verify_repository(path).findings == []


def turn_back(file: Path) -> None:
    """Let the map be as the first release wrote it."""
    first = file.with_name("first")
    with contextlib.closing(sqlite3.connect(first)) as db:
        db.executescript(FIRST_SCHEMA)
        db.execute("ATTACH ? AS new", (str(file),))
        for table in ("rewrite", "commits", "backups", "binaries"):
            columns = [row[1] for row in db.execute(f"PRAGMA new.table_info({table})")][:-1]
            names = ", ".join(columns)
            db.execute(
                f"INSERT INTO main.{table} SELECT {names} FROM new.{table}"
                f" WHERE {columns[0]} != x''"
            )
        db.commit()
    first.rename(file)


def test_the_values_of_a_map_without_checksums_are_of_their_kinds(path: Path) -> None:
    rewritten(path)
    file = path / id_map.FILE_NAME
    turn_back(file)
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE commits SET new = 'text' WHERE new NOTNULL")
        db.commit()
    assert kinds(path) == {Kind.IDS}


# The map and main


def test_verify_tells_when_main_is_the_history_that_the_map_says_was_replaced(
    path: Path,
) -> None:
    rewritten(path, runs=1)
    (old,) = git(path, "for-each-ref", "--format=%(objectname)", "refs/confkeep").split()
    (path / "refs/heads/main").write_bytes(old + b"\n")
    texts = [f.text for f in verify_repository(path).findings if f.kind == Kind.IDS]
    assert any("were replaced" in text for text in texts)
    assert any("were removed" in text for text in texts)
    assert any("does not hold" in text for text in texts)


@pytest.mark.parametrize("lost", ["all", "newest"])
def test_verify_tells_when_the_map_does_not_know_of_the_last_rewrite(lost: str, path: Path) -> None:
    rewritten(path)
    file = path / id_map.FILE_NAME
    if lost == "all":
        file.unlink()
    else:
        shutil.copy(max(path.glob(f"{id_map.BEFORE_PREFIX}*")), file)
    texts = [f.text for f in verify_repository(path).findings if f.kind == Kind.IDS]
    assert any("no row tells what became of it" in text for text in texts)


def test_verify_finds_a_map_that_leads_nowhere(path: Path) -> None:
    rewritten(path)
    step = Rewrite("1" * 40, "2" * 40, NOW_S, [(b"\x01" * 20, b"\x02" * 20)], (), ())
    id_map.write_pending(path, step)
    durable.rename(path / id_map.PENDING_NAME, path / id_map.FILE_NAME)
    (finding,) = verify_repository(path).findings
    assert (finding.kind, "leads to 1 commits" in finding.text) == (Kind.IDS, True)


def test_no_flipped_bit_of_the_pages_above_leads_astray(tmp_path: Path) -> None:
    rng = random.Random(11)
    gone = [
        id_map.RemovedBackup(str(uuid.UUID(int=rng.getrandbits(128))), None, "3" * 40, NOW_S)
        for _ in range(3_000)
    ]
    commits = [(rng.randbytes(20), rng.choice([None, rng.randbytes(20)])) for _ in gone]
    step = Rewrite("1" * 40, "2" * 40, NOW_S, commits, gone, ())
    id_map.write_pending(tmp_path, step)
    file = tmp_path / id_map.PENDING_NAME
    assert damage_of(file) is None
    sound = file.read_bytes()
    asked = Asked([], [old.hex() for old, _new in commits[::300]])
    asked.ids = [one.backup_id for one in gone[::150]]
    asked.ids += [str(uuid.UUID(int=rng.getrandbits(128))) for _ in asked.ids]
    truth = asked.answers(file)
    assert len([a for a in truth.values() if a]) > 20
    # Pages of an index that lead to other pages begin with a 2.
    above = [at for at in range(0, len(sound), 4096) if sound[at] == 2]
    assert above
    bits = [at * 8 + bit for at in above for bit in chosen_bits(sound[at : at + 4096], rng, 120)]
    refused = 0
    for bit in bits:
        file.write_bytes(flipped(sound, bit))
        found = asked.answers(file)
        assert found == {question: truth[question] for question in found}, f"bit {bit}"
        if len(found) < len(truth):
            assert damage_of(file), f"bit {bit}"
            refused += 1
    assert refused > 5


def test_a_file_whose_tables_are_other_ones_is_no_map(path: Path) -> None:
    rewritten(path)
    file = path / id_map.FILE_NAME
    # As the first release's: its rows would not be proven.
    file.write_bytes(file.read_bytes().replace(b"sum BLOB NOT NULL", b"sux BLOB NOT NULL"))
    with pytest.raises(SideFileDamaged, match="not those of a map"):
        IdMap(file)
