"""The rows of an id map: each proves itself, and that no row is missing before the next.

Every table is sorted by its first column, and begins with a row whose key is empty. A row's
checksum covers the table's name, the row's values and the key of the next row. So both answers to a
look-up are proven: "it is there" by the row's own checksum, "it is not there" by that of the row
before the gap. Wherever a flipped bit leads SQLite, it is found as damage, and never gives a wrong
answer.

Files of the first release have no checksums. Their whole schema tells them apart, so that no
flipped bit makes one kind of file look like the other.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

Row = tuple[bytes | int | None, ...]

#: The columns of each table, the key first, and the bytes of each value; None: a number.
COLUMNS: Final[dict[str, dict[str, int | None]]] = {
    "rewrite": {"old_tip": 20, "new_tip": 20, "made_s": None},
    "commits": {"old": 20, "new": 20, "removed_s": None},
    "backups": {"backup_id": 16, "device_id": 16, "sha": 20, "committed_s": None},
    "binaries": {"backup_id": 16, "removed_s": None},
}

_SCHEMA: Final = (
    (
        "CREATE TABLE rewrite (old_tip BLOB NOT NULL, new_tip BLOB, made_s INTEGER NOT NULL,"
        " sum BLOB NOT NULL)"
    ),
    (
        "CREATE TABLE commits (old BLOB PRIMARY KEY, new BLOB, removed_s INTEGER, sum BLOB NOT NULL,"
        " CHECK ((new IS NULL) = (removed_s IS NOT NULL))) WITHOUT ROWID"
    ),
    "CREATE INDEX commits_new ON commits (new)",
    (
        "CREATE TABLE backups (backup_id BLOB PRIMARY KEY, device_id BLOB, sha BLOB NOT NULL,"
        " committed_s INTEGER NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE binaries (backup_id BLOB PRIMARY KEY, removed_s INTEGER NOT NULL,"
        " sum BLOB NOT NULL) WITHOUT ROWID"
    ),
)
#: The schema as SQLite stores it in files of the first release, which have no checksums.
_FIRST_SCHEMA: Final = (
    "CREATE TABLE rewrite (old_tip BLOB NOT NULL, new_tip BLOB, made_s INTEGER NOT NULL)",
    (
        "CREATE TABLE commits (\n    old BLOB PRIMARY KEY, new BLOB, removed_s INTEGER,"
        " CHECK ((new IS NULL) = (removed_s IS NOT NULL))\n) WITHOUT ROWID"
    ),
    "CREATE INDEX commits_new ON commits (new)",
    (
        "CREATE TABLE backups (\n    backup_id BLOB PRIMARY KEY, device_id BLOB, sha BLOB NOT NULL,"
        " committed_s INTEGER NOT NULL\n) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE binaries (\n    backup_id BLOB PRIMARY KEY, removed_s INTEGER NOT NULL\n"
        ") WITHOUT ROWID"
    ),
)
#: The first row of each table that has look-ups: its key is below all others.
_FIRST_ROWS: Final[dict[str, Row]] = {
    "commits": (b"", None, 0),
    "backups": (b"", None, b"", 0),
    "binaries": (b"", 0),
}
_SUM_BYTES: Final = 8
_SEALED_AT_ONCE: Final = 1_000


class BadRow(Exception):
    """A row is damaged, or not in its place."""


class Rows:
    """The tables of one file, open for reading.

    Where it finds the file damaged, it raises `BadRow`, `sqlite3.Error` or `UnicodeDecodeError`.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        """Check the schema.

        Raises:
            BadRow: it is another one.
            sqlite3.Error, UnicodeDecodeError: SQLite finds the file damaged.
        """
        self._db = db
        schema = tuple(sql for (sql,) in db.execute("SELECT sql FROM sqlite_master ORDER BY rowid"))
        if schema not in (_SCHEMA, _FIRST_SCHEMA):
            raise BadRow("its tables are not those of a map of ids")
        #: Whether the file has checksums.
        self.summed = schema == _SCHEMA

    def between(self, table: str, low: bytes, high: bytes, most: int = 1) -> list[Row]:
        """The first rows with keys from `low` to `high`, both included, verified; at most `most`."""
        key = next(iter(COLUMNS[table]))
        chosen = self._select(table)
        if not self.summed:
            where = f"WHERE {key} BETWEEN ? AND ? ORDER BY {key} LIMIT ?"
            rows = self._db.execute(f"{chosen} {where}", (low, high, most)).fetchall()
            return [_checked(table, row) for row in rows]
        before = self._db.execute(f"{chosen} WHERE {key} < ? ORDER BY {key} DESC LIMIT 1", (low,))
        behind = self._db.execute(
            f"{chosen} WHERE {key} >= ? ORDER BY {key} LIMIT ?", (low, most + 1)
        )
        chain = before.fetchall()
        if not chain:
            raise BadRow(f"{table}: its first row is missing")
        chain += behind.fetchall()
        found: list[Row] = []
        # There may be one more row than wanted: it proves the row before it.
        for number, row in enumerate(chain[: most + 1]):
            after = chain[number + 1][0] if number + 1 < len(chain) else None
            found.append(_proven(table, row, after))
            if not number and (row[0] >= low or (after is not None and after < low)):
                raise BadRow(f"{table}: its rows are not in order")
            if after is None or after > high:
                break
        return found[1:]

    def every(self, table: str) -> Iterator[Row]:
        """All rows of a table that has look-ups, in the order of their keys, each verified."""
        rows = self._db.execute(f"{self._select(table)} ORDER BY {next(iter(COLUMNS[table]))}")
        if not self.summed:
            for row in rows:
                yield _checked(table, row)
            return
        last = next(rows, None)
        if last is None or last[0] != b"":
            raise BadRow(f"{table}: its first row is missing")
        for row in rows:
            proven = _proven(table, last, row[0])
            if last[0]:
                yield proven
            last = row
        proven = _proven(table, last, None)
        if last[0]:
            yield proven

    def rewrite(self) -> Row:
        """The row of the newest rewrite."""
        rows = self._db.execute(f"{self._select('rewrite')} LIMIT 2").fetchall()
        if len(rows) != 1:
            raise BadRow("it is of no rewrite")
        return _proven("rewrite", rows[0], None) if self.summed else _checked("rewrite", rows[0])

    def _select(self, table: str) -> str:
        columns = [*COLUMNS[table], *(["sum"] if self.summed else [])]
        return f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - names of our own


def create(db: sqlite3.Connection) -> None:
    """Create the tables without any rows to look up."""
    for statement in _SCHEMA:
        db.execute(statement)
    for table, row in _FIRST_ROWS.items():
        put(db, table, [row])


def put(db: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    """Put rows into a table, replacing those of the same key; they have no checksum yet."""
    marks = ", ".join("?" * len(COLUMNS[table]))
    into = f"INSERT OR REPLACE INTO {table} VALUES ({marks}, zeroblob({_SUM_BYTES}))"  # noqa: S608
    db.executemany(into, rows)


def seal(db: sqlite3.Connection) -> None:
    """Give every row its checksum; nothing may change afterwards."""
    for table, columns in COLUMNS.items():
        key = next(iter(columns))
        chosen = (
            f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608
            f" WHERE {key} >= ? ORDER BY {key} LIMIT ?"
        )
        change = f"UPDATE {table} SET sum = ? WHERE {key} = ?"  # noqa: S608
        at: bytes = b""
        while rows := db.execute(chosen, (at, _SEALED_AT_ONCE + 1)).fetchall():
            sums = [(_sum(table, row, after[0]), row[0]) for row, after in pairwise(rows)]
            if len(rows) <= _SEALED_AT_ONCE:
                sums.append((_sum(table, rows[-1], None), rows[-1][0]))
            db.executemany(change, sums)
            if len(rows) <= _SEALED_AT_ONCE:
                break
            at = rows[-1][0]


def _sum(table: str, row: Row, after: object) -> bytes:
    digest = hashlib.blake2b(table.encode(), digest_size=_SUM_BYTES)
    for value in (*row, after):
        if isinstance(value, bytes):
            digest.update(b"b%d:" % len(value) + value)
        else:
            digest.update(f"{type(value).__name__}:{value};".encode())
    return digest.digest()


def _proven(table: str, row: Row, after: object) -> Row:
    """The row without its checksum."""
    if row[-1] != _sum(table, row[:-1], after):
        raise BadRow(f"{table}: a row has another checksum")
    return row[:-1]


def _checked(table: str, row: Row) -> Row:
    """A row of a file without checksums, if its values have the right types."""
    for value, size in zip(row, COLUMNS[table].values(), strict=True):
        if value is not None and (
            not isinstance(value, int)
            if size is None
            else type(value) is not bytes or len(value) != size
        ):
            raise BadRow(f"{table}: a value is of another kind")
    return row
