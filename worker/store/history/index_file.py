"""The history index's file: plain SQLite tables with a checksum in each row.

`confkeep.index` in the repository's folder has a rollback journal: that works on network file systems, and
for readers who may not write, where a write-ahead log does not.

    state     one row: the format, the commit that the rest is complete for, how many commits there
              are, the newest merge (`base`), and the boot of the machine that writes it (below)
    commits   every commit by its number, parents first
    versions  a device and a position: a commit that changed the device, and what its files tell
    devices   when each device was last backed up, changed or not

In a history without merges a version's position is its commit's number. Up to the newest merge, the
base, it only says where the version stands in the order of `git log -- DEVICE`.

Power cuts: a batch is not synced when the file is marked with the machine's present boot. A file that
has the mark of another boot went down unfinished, so the next writer builds it anew. Setting the mark,
taking it away, and what is written without it are synced. So a turn of one batch, which is the common
one, ends with a file that is durable and without mark, and longer ones take it away when they close.

SQLite's journal takes back what a killed process left half done. A row whose bytes changed is told by
its checksum when it is read, and one that is lost by `confkeep verify`, which compares all with git.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from confkeep import modes
from worker.store.repository.backup import Detail, Version

#: Raised with every change of what the rows mean; a file of another format is built anew.
FORMAT: Final = 3

NO_MERGE: Final = -1

#: How long a reader waits while the writer's transaction is being written.
_BUSY_S: Final = 2.0

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: What earlier formats kept beside the file.
_OLD_NAME: Final = "confkeep.index-seal"

#: SQLite's words for a file that time or permission may mend; all others are damage.
_NOT_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)

_SCHEMA: Final = """
CREATE TABLE state (id INTEGER PRIMARY KEY, format INTEGER, tip BLOB, commits INTEGER, base INTEGER,
    boot BLOB, crc INTEGER);
CREATE TABLE commits (number INTEGER PRIMARY KEY, sha BLOB, committed_s INTEGER, backup_id BLOB,
    message BLOB, crc INTEGER);
CREATE INDEX commits_by_backup ON commits (backup_id) WHERE backup_id NOTNULL;
CREATE TABLE versions (device BLOB, position INTEGER, number INTEGER, export_changed INTEGER,
    lines_added INTEGER, lines_removed INTEGER, export_bytes INTEGER, binary_bytes INTEGER,
    suspect TEXT, crc INTEGER, PRIMARY KEY (device, position)) WITHOUT ROWID;
CREATE TABLE devices (device BLOB PRIMARY KEY, seen_s INTEGER, crc INTEGER) WITHOUT ROWID
"""
_PUT_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?,?,?,?,?,?,?)"
_PUT_COMMIT: Final = "INSERT INTO commits VALUES (?,?,?,?,?,?)"
_PUT_VERSION: Final = "INSERT OR REPLACE INTO versions VALUES (?,?,?,?,?,?,?,?,?,?)"
_PUT_DEVICE: Final = "INSERT OR REPLACE INTO devices VALUES (?,?,?)"
#: Columns of a version with its checksum; those of its commit follow.
_VERSION_COLUMNS: Final = 10


class Unusable(Exception):
    """The file is absent, locked, full or not permitted. Never leaves the index."""


class Unfinished(Unusable):
    """The machine went down while the file was open, or another machine has it."""


class Damaged(Unusable):
    """What the file holds is not what was written, or is of another format: build it anew."""


_NO_DETAIL: Final = (None,) * 6


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit to be added, as a version of each device that it changed."""

    version: Version
    changed: Sequence[bytes]
    #: The device that a backup is of.
    seen: bytes | None = None

    @property
    def devices(self) -> Sequence[bytes]:
        """Those that it says something about."""
        return self.changed if self.seen is None else (*self.changed, self.seen)


@dataclass(frozen=True, slots=True)
class Root:
    """What the file is complete for."""

    tip: bytes | None = None
    commits: int = 0
    base: int = NO_MERGE
    #: The boot whose writes are not synced; None if all is.
    boot: bytes | None = None


@cache
def boot_id() -> bytes:
    """What tells one start of this machine from another."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        # Nobody else takes a file for whole that this process did not close.
        return uuid.uuid4().bytes


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    """Whatever SQLite or a row's shape makes of damaged bytes becomes `Unusable`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _NOT_DAMAGE:
            raise Unusable(str(error)) from error
        raise Damaged(str(error)) from error
    except (TypeError, ValueError, OverflowError) as error:
        # Damage may change a cell's type too.
        raise Damaged(str(error)) from error


def _with_crc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row, crc32(repr(row).encode()))


def _checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row that was read, without its checksum, which must be right."""
    if crc32(repr(row[:-1]).encode()) != row[-1]:
        raise Damaged("a row's checksum is wrong")
    return row[:-1]


def _cells(detail: Detail | None) -> tuple[Any, ...]:
    if detail is None:
        return _NO_DETAIL
    return (int(detail.export_changed), *astuple(detail)[1:])


def _version_of(found: tuple[Any, ...]) -> Version:
    """A row of `versions` and that of its commit, behind each other."""
    _device, _position, number, changed, *rest = _checked(found[:_VERSION_COLUMNS])
    commit, id_, committed_s, backup_id, message = _checked(found[_VERSION_COLUMNS:])
    if commit != number:
        raise Damaged("a version is of another commit")
    detail = None if changed is None else Detail(bool(changed), *rest)
    return Version(id_, committed_s, backup_id, message, detail)


class IndexFile:
    """An open index file. Every method raises `Unusable`, and nothing else, for a bad one."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Open the file; one that is to be written is created if there is none."""
        self.root = Root()
        self._path = path
        self._write = write
        #: This connection added commits; it is to take the mark away.
        self._appended = self._marked = False
        with _sqlite_errors():
            if write:
                # SQLite would go by the umask. What it creates beside takes this one's permissions.
                # Never an existing file: closing it would drop the locks of this process on it.
                with suppress(OSError):
                    os.close(modes.create(path, os.O_RDWR | os.O_EXCL))
            quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            self._db = sqlite3.connect(
                f"file:{quoted}?mode={'rwc' if write else 'ro'}",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                if write:
                    self._db.execute("PRAGMA journal_mode=TRUNCATE").fetchall()
            except sqlite3.Error:
                self._db.close()
                raise
        self._place = _place_of(path)

    def close(self, *, sound: bool = True) -> None:
        """Release the file, durable.

        Args:
            sound: False: leave its mark, if it has one.
        """
        if sound and self._marked:
            with suppress(Unusable), self._writing(synced=True):
                self._store_root(replace(self.root, boot=None))
        self._db.close()

    def __del__(self) -> None:
        # Repositories may be dropped without being closed; SQLite's connection must not.
        with suppress(AttributeError):
            self._db.close()

    def has_journal(self) -> bool:
        """Whether there is a transaction that did not end."""
        try:
            return os.stat(journal_of(self._path)).st_size > 0
        except FileNotFoundError:
            return False

    def is_at(self, path: Path) -> bool:
        """Whether the open file is the one that now has that name."""
        return self._place is not None and self._place == _place_of(path)

    # --- reading

    @contextmanager
    def reading(self) -> Iterator[Root]:
        """Read what the file is complete for, and see that state until the block ends.

        No writer can commit meanwhile, so the block is short.
        """
        with _sqlite_errors():
            self._db.execute("BEGIN")
            try:
                self.root = self._read_root()
                yield self.root
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _read_root(self) -> Root:
        if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return Root()
        found = self._db.execute("SELECT * FROM state").fetchone()
        if found is None:
            return Root()
        _id, version, *state = _checked(found)
        if version != FORMAT:
            raise Damaged("another format")
        root = Root(*state)
        if root.boot not in (None, boot_id()):
            # A reader does not know: the file may be open on another machine that lives.
            raise (Damaged if self._write else Unfinished)("another boot of a machine has it open")
        return root

    def last_seen(self, device: bytes) -> int | None:
        """When the device was last backed up, changed or not; None if unknown to the index."""
        with _sqlite_errors():
            found = self._db.execute("SELECT * FROM devices WHERE device=?", (device,)).fetchone()
            return None if found is None else int(_checked(found)[1])

    def all_last_seen(self) -> dict[bytes, int]:
        """All devices with when each was last backed up, changed or not."""
        with _sqlite_errors():
            return dict(map(_checked, self._db.execute("SELECT * FROM devices")))

    def knows(self, device: bytes) -> bool:
        """Whether any row names the device."""
        with _sqlite_errors():
            found = self._db.execute(
                "SELECT 1 FROM devices WHERE device=?1 UNION SELECT 1 FROM versions WHERE device=?1",
                (device,),
            )
            return found.fetchone() is not None

    def devices(self, newest: int | None = None) -> dict[bytes, tuple[int, Version]]:
        """All devices that have versions, with how many and the newest of them.

        The last changed device is last.

        Args:
            newest: leave out versions at higher positions.
        """
        with _sqlite_errors():
            found = self._db.execute(
                "SELECT many, v.*, c.* FROM (SELECT device AS name, count(*) AS many, max(position)"
                " AS last FROM versions WHERE position<=? GROUP BY device)"
                " JOIN versions AS v ON v.device=name AND v.position=last"
                " JOIN commits AS c ON c.number=v.number ORDER BY c.number",
                (self.root.commits if newest is None else newest,),
            )
            return {bytes(row[1]): (row[0], _version_of(row[1:])) for row in found}

    def versions(self, device: bytes, newest: int | None = None) -> Iterator[Version]:
        """A device's versions, newest first; each is checked before it is given.

        Args:
            newest: leave out those at higher positions.
        """
        with _sqlite_errors():
            for found in self._db.execute(
                "SELECT v.*, c.* FROM versions AS v JOIN commits AS c ON c.number=v.number"
                " WHERE device=? AND position<=? ORDER BY position DESC",
                (device, self.root.commits if newest is None else newest),
            ):
                yield _version_of(found)

    def commits(self) -> Iterator[Version]:
        """All commits, parents first."""
        with _sqlite_errors():
            for number, found in enumerate(
                self._db.execute("SELECT * FROM commits ORDER BY number")
            ):
                kept, *cells = _checked(found)
                if kept != number:
                    raise Damaged("a commit is missing")
                yield Version(*cells)

    def sha_of(self, number: int) -> bytes:
        """The id of the commit with that number."""
        with _sqlite_errors():
            found = self._db.execute("SELECT * FROM commits WHERE number=?", (number,)).fetchone()
            if found is None:
                raise Damaged("a commit is missing")
            return bytes(_checked(found)[1])

    def number_of(self, sha: bytes, *, most: int = 100_000) -> int | None:
        """The number of a commit, looked for among the newest `most`; None if not there."""
        with _sqlite_errors():
            found = self._db.execute(
                "SELECT number FROM commits WHERE number>=? AND sha=? ORDER BY number DESC LIMIT 1",
                (self.root.commits - most, sha),
            ).fetchone()
            return None if found is None else int(found[0])

    def numbers_of(self, backup_ids: Iterable[bytes]) -> dict[bytes, list[int]]:
        """The commits that have one of these backup ids."""
        numbers: dict[bytes, list[int]] = {}
        with _sqlite_errors():
            for backup_id in backup_ids:
                found = self._db.execute(
                    "SELECT number FROM commits WHERE backup_id=?", (backup_id,)
                ).fetchall()
                if found:
                    numbers[backup_id] = [number for (number,) in found]
        return numbers

    def check_structure(self) -> str | None:
        """What SQLite finds wrong with its pages; None if nothing is."""
        with _sqlite_errors():
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return None if found == "ok" else str(found)

    # --- writing

    def append(self, parent: bytes | None, entries: Sequence[Entry]) -> bool:
        """Add commits in their order, in one transaction.

        Returns:
            Whether the file was complete for `parent`; if not, nothing is added.
        """
        with self._writing() as synced:
            if self.root.tip != parent:
                return False
            versions: list[tuple[Any, ...]] = []
            seen: dict[bytes, int] = {}
            for number, entry in enumerate(entries, self.root.commits):
                cells = _cells(entry.version.detail)
                versions += ((name, number, number, *cells) for name in entry.changed)
                seen.update(dict.fromkeys(entry.devices, entry.version.committed_s))
            if entries:
                self._add(entries, versions, seen, self.root.base, synced=synced)
        return True

    def append_base(
        self,
        commits: Sequence[Entry],
        versions: Mapping[bytes, Sequence[Version]],
        seen: Mapping[bytes, int],
    ) -> None:
        """Begin an empty index with a history that has merges.

        Args:
            commits: all of them, parents first; the last one is the base.
            versions: what `git log -- DEVICE` lists for each device, oldest first.
            seen: when each device was last backed up.
        """
        with self._writing() as synced:
            if self.root.commits:
                raise Unusable("another process wrote meanwhile")
            number_of = {entry.version.id: number for number, entry in enumerate(commits)}
            rows = (
                (device, position, number_of[version.id], *_NO_DETAIL)
                for device, listed in versions.items()
                for position, version in enumerate(listed)
            )
            self._add(commits, rows, seen, len(commits) - 1, synced=synced)

    def _add(
        self,
        entries: Sequence[Entry],
        versions: Iterable[tuple[Any, ...]],
        seen: Mapping[bytes, int],
        base: int,
        *,
        synced: bool,
    ) -> None:
        first = self.root.commits
        rows = (
            (number, made.id, made.committed_s, made.packed_backup_id, made.raw_message)
            for number, made in enumerate((entry.version for entry in entries), first)
        )
        self._db.executemany(_PUT_COMMIT, map(_with_crc, rows))
        self._db.executemany(_PUT_VERSION, map(_with_crc, versions))
        self._db.executemany(_PUT_DEVICE, map(_with_crc, seen.items()))
        # The first one that is synced needs no mark. Of a writer who goes on the next ones do.
        self._marked = not synced or self._appended
        self._appended = True
        boot = boot_id() if self._marked else None
        self._store_root(Root(entries[-1].version.id, first + len(entries), base, boot))

    def _store_root(self, root: Root) -> None:
        self.root = root
        row = (1, FORMAT, root.tip, root.commits, root.base, root.boot)
        self._db.execute(_PUT_STATE, _with_crc(row))

    def add_details(self, device: bytes, details: Mapping[bytes, Detail]) -> None:
        """Keep details, by commit, that were looked up after a device's versions were indexed."""
        with self._writing():
            wanted = dict(details)
            rows = []
            for *cells, sha in self._db.execute(
                "SELECT v.*, c.sha FROM versions AS v JOIN commits AS c ON c.number=v.number"
                " WHERE device=? ORDER BY position DESC",
                (device,),
            ):
                detail = wanted.pop(sha, None)
                if detail is not None:
                    rows.append((*_checked(tuple(cells))[:3], *_cells(detail)))
                if not wanted:
                    break
            self._db.executemany(_PUT_VERSION, map(_with_crc, rows))

    @contextmanager
    def _writing(self, *, synced: bool = False) -> Iterator[bool]:
        """A transaction; its tables are there. Gives whether it is going to be synced."""
        with _sqlite_errors():
            try:
                synced = self._begin(synced=synced)
                yield synced
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _begin(self, *, synced: bool) -> bool:
        """Begin to write; what has no mark only with syncs, which must be said before."""
        self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'OFF'}")
        self._db.execute("BEGIN IMMEDIATE")
        self.root = self._read_root()
        if self.root == Root():
            if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
        elif self.root.boot is None and not synced:
            self._db.execute("ROLLBACK")
            return self._begin(synced=True)
        return synced


def delete_file(path: Path) -> None:
    """Remove an index file, and its journal, which must not be played into the next one."""
    for name in (journal_of(path), path, path.with_name(_OLD_NAME)):
        with suppress(FileNotFoundError):
            os.unlink(name)


def journal_of(path: Path) -> Path:
    """Where SQLite keeps what the transaction that is running replaced."""
    return path.with_name(f"{path.name}-journal")


def _place_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
