"""The seal of the index file: every flipped bit is told, and never is there a false alarm."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crash.test_crash_states import TENANT
from tests.histories import device_ids, random_backups
from worker.store.commit import commit_backups
from worker.store.index import INDEX_NAME
from worker.store.index_file import IndexFile
from worker.store.index_format import Detail, Entry, Unusable
from worker.store.index_seal import SEAL_NAME, Seal
from worker.store.index_writer import IndexWriter, delete_file
from worker.store.repository import create_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Outcome

STEPS = ["append", "append", "append", "other", "details", "roll back", "kill", "reopen", "anew"]


def said_of(path: Path) -> str | None:
    """What the check of the bytes says to a reader, who comes while others may have the file."""
    try:
        file = IndexFile(path)
        try:
            with file.reading():
                return file.check_bytes()
        finally:
            file.close()
    except Unusable as error:
        return str(error)


def entries(rng: random.Random, devices: list[bytes], count: int) -> list[Entry]:
    """Commits with messages of any length, so that some rows take pages of their own."""
    return [
        Entry(
            sha=rng.randbytes(20),
            committed_s=1_700_000_000,
            backup_id=rng.choice([None, rng.randbytes(16)]),
            message=rng.randbytes(rng.choice([0, 20, 20, 20, 300, 9000])),
            changed=(rng.choice(devices),),
            detail=None,
        )
        for _ in range(count)
    ]


class Writer:
    """A writer whose every transaction is also seen as a kill would leave it."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.path = folder / "now" / INDEX_NAME
        self.path.parent.mkdir(exist_ok=True)
        self._killed = folder / "killed"
        self._rng = rng
        self.file = self._open()

    def _open(self) -> IndexWriter:
        file = IndexWriter(self.path)
        # Pages leave a small cache before the transaction is over.
        file._db.execute(f"PRAGMA cache_size={self._rng.choice([3, 2000])}")
        return file

    def reopen(self, *, killed: bool = False) -> None:
        if killed:
            self.file._seal.give_up()
        self.file.close()
        self.file = self._open()

    def tip(self) -> bytes | None:
        with self.file.reading() as root:
            return root.tip

    @contextmanager
    def killed_anywhere(self) -> Iterator[None]:
        """Look at a copy of all files before and after each commit, with the journal as it is."""

        def look(*_arguments: object) -> None:
            shutil.rmtree(self._killed, ignore_errors=True)
            shutil.copytree(self.path.parent, self._killed)
            # The next writer rolls back what was not finished.
            file = IndexWriter(self._killed / INDEX_NAME)
            with file.reading():
                assert file.check_bytes() is None
            file.close()

        real_note, real_committed = Seal.note_changes, Seal.committed

        def note(seal: Seal) -> None:
            look()
            real_note(seal)

        def committed(seal: Seal, db: sqlite3.Connection, commits: int) -> None:
            look()
            real_committed(seal, db, commits)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Seal, "note_changes", note)
            patch.setattr(Seal, "committed", committed)
            yield


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 60)), max_size=15),
)
def test_any_history_has_no_false_alarm_and_no_missed_bit(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    rng = random.Random(seed)
    devices = [rng.randbytes(16) for _ in range(rng.choice([1, 5, 300]))]
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder), rng)
        for kind, count in steps:
            if kind == "append":
                with writer.killed_anywhere():
                    assert writer.file.append(writer.tip(), entries(rng, devices, count))
            elif kind == "other":
                other = IndexWriter(writer.path)
                assert other.append(writer.tip(), entries(rng, devices, count))
                if count % 2:
                    assert writer.file.append(writer.tip(), entries(rng, devices, 1))
                other.close()
            elif kind == "details":
                found = Detail(True, count, 0, None, count)
                details = {rng.randbytes(20): found for _ in range(count)}
                writer.file.add_details(rng.randbytes(16), details)
            elif kind == "roll back":
                with pytest.MonkeyPatch.context() as patch, pytest.raises(Unusable):
                    patch.setattr(IndexWriter, "_append_ids", _refuse)
                    writer.file.append(writer.tip(), entries(rng, devices, count))
            elif kind == "anew":
                writer.file.close()
                delete_file(writer.path)
                writer.file = writer._open()
            else:
                writer.reopen(killed=kind == "kill")
            assert said_of(writer.path) is None, kind
        assert writer.file.append(writer.tip(), entries(rng, devices, 1))
        writer.file.close()
        assert said_of(writer.path) is None
        for name in (INDEX_NAME, SEAL_NAME):
            place = writer.path.with_name(name)
            sound = place.read_bytes()
            for _ in range(20):
                damaged = bytearray(sound)
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                place.write_bytes(damaged)
                assert said_of(writer.path) is not None
            place.write_bytes(sound)


@pytest.mark.parametrize("count", [1, 60])
def test_every_bit_of_the_files_header_counts(tmp_path: Path, count: int) -> None:
    """Some of its fields also say whether the seal is of this state of the file."""
    rng = random.Random(count)
    path = tmp_path / INDEX_NAME
    writer = IndexWriter(path)
    assert writer.append(None, entries(rng, [rng.randbytes(16)], count))
    writer.close()
    sound = path.read_bytes()
    missed = []
    for bit in range(800):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if said_of(path) is None:
            missed.append(bit)
    assert missed == []


def test_a_writer_does_not_seal_a_damaged_header(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / INDEX_NAME
    writer = IndexWriter(path)
    assert writer.append(None, entries(rng, [rng.randbytes(16)], 60))
    writer.close()
    damaged = bytearray(path.read_bytes())
    damaged[31] -= 1  # the number of pages
    path.write_bytes(damaged)
    writer = IndexWriter(path)
    with pytest.raises(Unusable, match="header"):
        writer.add_details(rng.randbytes(16), {rng.randbytes(20): Detail(True, 1, 0, None, 1)})
    writer.close()
    assert said_of(path) is not None


def _refuse(*_arguments: object) -> None:
    raise sqlite3.OperationalError("as if the disk were full")


def test_a_large_index_is_sealed_transaction_by_transaction(tmp_path: Path) -> None:
    """Runs of ids are absorbed, pages become free and are filled again, rows take many pages."""
    rng = random.Random(4)
    devices = [rng.randbytes(16) for _ in range(2000)]
    path = tmp_path / INDEX_NAME
    file = IndexWriter(path)
    tip = None
    for number in range(60):
        added = entries(rng, devices, rng.choice([1, 20, 500]))
        assert file.append(tip, added)
        tip = added[-1].sha
        if number % 5 == 0:
            assert said_of(path) is None
    file.close()
    assert said_of(path) is None
    sealed = (tmp_path / SEAL_NAME).read_bytes()
    assert len(sealed) == 16 + path.stat().st_size // 4096 * 4
    # What was computed piece by piece is what a whole computation gives.
    (tmp_path / SEAL_NAME).unlink()
    again = IndexWriter(path)
    again.add_details(bytes(16), {})
    again.close()
    assert (tmp_path / SEAL_NAME).read_bytes()[16:] == sealed[16:]


def test_verify_beside_a_living_writer_gives_no_alarm(tmp_path: Path) -> None:
    path = tmp_path / TENANT
    repository = create_repository(path)
    for seed in range(30):
        commit_backups(repository, random_backups(device_ids(3), 1 + seed % 4, seed))
        report = verify_repository(path)
        assert (report.outcome, report.findings) == (Outcome.CLEAN, [])
    assert repository.kept.index is not None
    repository.kept.index.close()
    assert said_of(path / INDEX_NAME) is None
