"""The rows of the history index: what they hold, and how their checksums work."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final
from zlib import crc32

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
CREATE TABLE commits (number INTEGER PRIMARY KEY, sha BLOB, committed_s INTEGER, backup_id BLOB,
    message BLOB, crc INTEGER);
CREATE INDEX commits_by_backup ON commits (backup_id) WHERE backup_id NOTNULL;
CREATE TABLE versions (device BLOB, position INTEGER, number INTEGER, export_changed INTEGER,
    lines_added INTEGER, lines_removed INTEGER, export_bytes INTEGER, binary_bytes INTEGER,
    suspect TEXT, crc INTEGER, PRIMARY KEY (device, position)) WITHOUT ROWID;
CREATE TABLE devices (device BLOB PRIMARY KEY, seen_s INTEGER, crc INTEGER) WITHOUT ROWID
"""
PUT_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?,?,?,?,?,?,?)"
PUT_COMMIT: Final = "INSERT INTO commits VALUES (?,?,?,?,?,?)"
PUT_VERSION: Final = "INSERT OR REPLACE INTO versions VALUES (?,?,?,?,?,?,?,?,?,?)"
PUT_DEVICE: Final = "INSERT OR REPLACE INTO devices VALUES (?,?,?)"
#: Columns of a version, with its checksum; those of its commit follow.
_VERSION_COLUMNS: Final = 10


class Unusable(Exception):
    """The file is absent, locked, full or not permitted. Never leaves the index."""


class Unfinished(Unusable):
    """The machine went down while the file was open, or another machine has it open."""


class Damaged(Unusable):
    """The file is damaged or has another format; it has to be rebuilt."""


NO_DETAIL: Final = (None,) * 6
_CELLS: Final = attrgetter(*[each.name for each in fields(Detail)][1:])


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit to be added, as a version of each device that it changed."""

    version: Version
    changed: Sequence[bytes]
    #: The device that the backup is of.
    seen: bytes | None = None

    @property
    def devices(self) -> Sequence[bytes]:
        """The devices about which it says something."""
        return self.changed if self.seen is None else (*self.changed, self.seen)


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


def cells_of(detail: Detail | None) -> tuple[Any, ...]:
    """The columns of a version that come from its files; NULL if unknown."""
    if detail is None:
        return NO_DETAIL
    # Not `astuple`, which deep-copies each value.
    return (int(detail.export_changed), *_CELLS(detail))


def version_of(found: tuple[Any, ...]) -> Version:
    """A row of `versions` followed by that of its commit."""
    _device, _position, number, changed, *rest = checked(found[:_VERSION_COLUMNS])
    commit, id_, committed_s, backup_id, message = checked(found[_VERSION_COLUMNS:])
    if commit != number:
        raise Damaged("a version is of another commit")
    detail = None if changed is None else Detail(bool(changed), *rest)
    return Version(id_, committed_s, backup_id, message, detail)
