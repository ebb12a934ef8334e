"""The rows of the history index: what they hold, and how their checksums work."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from operator import attrgetter, eq, itemgetter
from typing import Any, Final
from zlib import crc32

from confkeep.labels import Labels
from worker.store.repository.backup import Detail, Version

NO_MERGE: Final = -1

#: SQLite's error codes for a file that time or permissions may fix; all others mean damage.
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

SCHEMA: Final = """
CREATE TABLE state (id INTEGER PRIMARY KEY, format INTEGER, tip BLOB, commits INTEGER, base INTEGER,
    boot BLOB, crc INTEGER);
CREATE TABLE commits (number INTEGER PRIMARY KEY, sha BLOB, committed_s INTEGER, captured_s INTEGER,
    backup_id BLOB, message BLOB, crc INTEGER);
CREATE INDEX commits_by_backup ON commits (backup_id) WHERE backup_id NOTNULL;
CREATE TABLE versions (device BLOB, position INTEGER, number INTEGER, tree BLOB, export_changed INTEGER,
    lines_added INTEGER, lines_removed INTEGER, export_bytes INTEGER, binary_bytes INTEGER,
    suspect TEXT, crc INTEGER, PRIMARY KEY (device, position)) WITHOUT ROWID;
CREATE TABLE devices (device BLOB PRIMARY KEY, seen_s INTEGER, crc INTEGER) WITHOUT ROWID;
CREATE TABLE labels (device BLOB PRIMARY KEY, name TEXT, address TEXT, model TEXT, device_group TEXT,
    crc INTEGER) WITHOUT ROWID;
CREATE TABLE own_names (device BLOB PRIMARY KEY, name TEXT, crc INTEGER) WITHOUT ROWID
"""
PUT_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?,?,?,?,?,?,?)"
PUT_COMMIT: Final = "INSERT INTO commits VALUES (?,?,?,?,?,?,?)"
PUT_VERSION: Final = "INSERT OR REPLACE INTO versions VALUES (?,?,?,?,?,?,?,?,?,?,?)"
PUT_DEVICE: Final = "INSERT OR REPLACE INTO devices VALUES (?,?,?)"
PUT_LABELS: Final = "INSERT OR REPLACE INTO labels VALUES (?,?,?,?,?,?)"
PUT_OWN_NAME: Final = "INSERT OR REPLACE INTO own_names VALUES (?,?,?)"
#: Columns of a version with its checksum; those of its commit follow.
_VERSION_COLUMNS: Final = 11


class Unusable(Exception):
    """The file is absent, locked, full or not permitted. Never leaves the index."""


class Unfinished(Unusable):
    """The machine went down while the file was open, another machine has it open, or another release wrote it."""


class Damaged(Unusable):
    """The file is damaged or has another format; it has to be rebuilt."""


NO_DETAIL: Final = (None,) * 6
_CELLS: Final = attrgetter(*[each.name for each in fields(Detail)][1:])


#: The devices that a commit changed, each with its tree there; None where that is not known, or is none.
Changed = Mapping[bytes, bytes | None]
#: No device.
NOTHING: Final[Changed] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit to be added, as a version of each device that it changed."""

    version: Version
    changed: Changed
    #: The device that its header names.
    device: bytes | None = None
    #: False if it only changed labels.
    captured: bool = True
    #: All labels of the device from now on; None if the commit has none in its header.
    labels: Labels | None = None
    #: The names in the newest exports of devices that this commit, or one before it, changed; None: no name.
    own_names: Mapping[bytes, str | None] = field(default_factory=dict)

    @property
    def seen(self) -> Collection[bytes]:
        """The devices that were backed up, changed or not."""
        if self.device is None or not self.captured:
            return self.changed
        return {*self.changed, self.device}


def labels_of(entries: Iterable[Entry]) -> dict[bytes, Labels]:
    """The labels of devices after those commits; only of devices whose labels the commits give."""
    return {
        entry.device: entry.labels
        for entry in entries
        if entry.device is not None and entry.labels is not None
    }


@dataclass(slots=True)
class MergedHistory:
    """A history with merges, ready for the index."""

    #: All of them, parents first; the last one is the base.
    commits: list[Entry]
    #: What `git log -- DEVICE` lists, oldest first.
    versions: dict[bytes, list[Version]]
    #: When each device was last backed up, and what it is called.
    seen: dict[bytes, int]
    labels: dict[bytes, Labels]


@dataclass(frozen=True, slots=True)
class Root:
    """What the file is complete for."""

    tip: bytes | None = None
    commits: int = 0
    base: int = NO_MERGE
    #: The boot whose writes are not synced; None if all are.
    boot: bytes | None = None


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turns any error that damaged bytes cause in SQLite or in reading a row into `Unusable`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _NOT_DAMAGE:
            raise Unusable(str(error)) from error
        raise Damaged(str(error)) from error
    except (TypeError, ValueError, OverflowError) as error:
        # Damage may also change a cell's type.
        raise Damaged(str(error)) from error


def with_crc(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row to write, with its checksum at the end."""
    return (*row, crc32(repr(row).encode()))


def checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row that was read, without its checksum, which is verified."""
    if crc32(repr(row[:-1]).encode()) != row[-1]:
        raise Damaged("a row's checksum is wrong")
    return row[:-1]


def all_checked(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """As `checked`, of many rows at once: without a call for each it takes two thirds of the time."""
    rows = list(rows)
    cells = [row[:-1] for row in rows]
    sums = map(crc32, map(str.encode, map(repr, cells)))
    if not all(map(eq, sums, map(itemgetter(-1), rows))):
        raise Damaged("a row's checksum is wrong")
    return cells


def cells_of(detail: Detail | None) -> tuple[Any, ...]:
    """The columns of a version that come from its files; NULL if unknown."""
    if detail is None:
        return NO_DETAIL
    # Not `astuple`, which deep-copies each value.
    return (int(detail.export_changed), *_CELLS(detail))


def version_of(found: tuple[Any, ...]) -> Version:
    """A row of `versions` followed by that of its commit."""
    _device, _position, number, tree, changed, *rest = checked(found[:_VERSION_COLUMNS])
    commit, id_, committed_s, captured_s, backup_id, message = checked(found[_VERSION_COLUMNS:])
    if commit != number:
        raise Damaged("a version is of another commit")
    detail = None if changed is None else Detail(bool(changed), *rest)
    return Version(id_, committed_s, captured_s, backup_id, message, detail, tree)


def pairs_checked(
    found: Iterable[tuple[Any, ...]],
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Rows of `versions`, each with that of its commit, as `all_checked` gives them.

    Args:
        found: a row of `versions` followed by that of its commit.
    """
    rows = list(found)
    versions = all_checked(row[:_VERSION_COLUMNS] for row in rows)
    commits = all_checked(row[_VERSION_COLUMNS:] for row in rows)
    for version, commit in zip(versions, commits, strict=True):
        if version[2] != commit[0]:
            raise Damaged("a version is of another commit")
        yield version, commit
