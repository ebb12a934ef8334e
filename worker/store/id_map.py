"""What became of commits that were rewritten or removed, and whose backups those were; it moves no ref.

One SQLite file, `confkeep.rewritten`, never written in place: each rewrite makes a new one from the
last and puts it beside as `confkeep.rewritten-pending`, before it moves `main`. `main` decides: the
pending file counts if the commit that the rewrite began with is neither `main` nor below it any
more. `docs/retention.md` gives the steps.

It is not derived from git, and it is kept for ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pygit2

from worker.errors import RepositoryDamaged
from worker.store import durable, refs

FILE_NAME: Final = "confkeep.rewritten"
PENDING_NAME: Final = "confkeep.rewritten-pending"

#: The map as it was before a rewrite that can be undone; the name goes on with the rewrite's stamp.
#: Empty: there was none.
BEFORE_PREFIX: Final = f"{FILE_NAME}-before-"

_SCHEMA: Final = """
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
CREATE TEMPORARY TABLE step (old BLOB PRIMARY KEY, new BLOB, removed_s INTEGER) WITHOUT ROWID;
"""
#: Most ids that one statement looks up.
_MOST_AT_ONCE: Final = 500
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a commit."""

    old: bytes
    #: The id that it has now; None: it was removed.
    new: bytes | None
    #: When, in seconds since 1970; None: it was not.
    removed_s: int | None


@dataclass(frozen=True, slots=True)
class RemovedBackup:
    """A backup that was committed and whose commit was removed."""

    backup_id: str
    #: None: the device was forgotten.
    device_id: str | None
    #: The commit's id at its removal.
    sha: str
    #: The committer's date in seconds since 1970.
    committed_s: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What one rewrite adds to the map."""

    #: 40 hex digits; the new one is None when nothing is left.
    old_tip: str
    new_tip: str | None
    made_s: int
    #: The old and the new id of each commit whose id changed; None: it goes.
    commits: Iterable[tuple[bytes, bytes | None]]
    removed: Iterable[RemovedBackup]
    #: Backups whose binary goes.
    binaries: Iterable[str]
    #: A device of which only ids of commits and backups may stay.
    forgotten: str | None = None


class IdMap:
    """One state of the map, open for reading."""

    def __init__(self, file: Path) -> None:
        """Open it.

        Raises:
            RepositoryDamaged: it is no such file.
        """
        self.file = file
        with _damage(file):
            self._db = sqlite3.connect(
                f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )

    def __del__(self) -> None:
        # A repository that was opened for reading has no end of its own.
        if hasattr(self, "_db"):
            self._db.close()

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def fates(self, prefix: str) -> list[Fate]:
        """What became of the commits whose id begins with these 4 to 40 hex digits; at most 3."""
        low = bytes.fromhex(prefix.ljust(40, "0"))
        high = bytes.fromhex(prefix.ljust(40, "f"))
        with _damage(self.file):
            rows = self._db.execute(
                "SELECT old, new, removed_s FROM commits WHERE old BETWEEN ? AND ? LIMIT 3",
                (low, high),
            ).fetchall()
        return [Fate(*row) for row in rows]

    def removed_backups(self, backup_ids: Collection[str]) -> dict[str, RemovedBackup]:
        """Those of the ids whose commits were removed."""
        found, wanted = {}, [_packed(backup_id) for backup_id in backup_ids]
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            some = wanted[start : start + _MOST_AT_ONCE]
            wanted_here = f"backup_id IN ({','.join('?' * len(some))})"
            query = "SELECT backup_id, device_id, sha, committed_s FROM backups WHERE "
            with _damage(self.file):
                rows = self._db.execute(query + wanted_here, some).fetchall()
            for backup_id, device_id, sha, committed_s in rows:
                text = _text_of(backup_id)
                device = None if device_id is None else _text_of(device_id)
                found[text] = RemovedBackup(text, device, sha.hex(), committed_s)
        return found

    def binary_removed_s(self, backup_id: str) -> int | None:
        """When the backup lost its binary, in seconds since 1970; None: it did not."""
        with _damage(self.file):
            row = self._db.execute(
                "SELECT removed_s FROM binaries WHERE backup_id = ?", (_packed(backup_id),)
            ).fetchone()
        return None if row is None else row[0]

    def current_ids(self) -> Iterator[bytes]:
        """The ids that commits have now."""
        with _damage(self.file):
            for (new,) in self._db.execute("SELECT DISTINCT new FROM commits WHERE new NOTNULL"):
                yield new

    def names(self, device_id: str) -> bool:
        """Whether a row names the device."""
        with _damage(self.file):
            row = self._db.execute(
                "SELECT 1 FROM backups WHERE device_id = ? LIMIT 1", (_packed(device_id),)
            ).fetchone()
        return row is not None

    def damage(self) -> str | None:
        """What SQLite finds wrong with the file; None: nothing."""
        try:
            [(said,)] = self._db.execute("PRAGMA integrity_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            return str(error)
        return None if said == "ok" else str(said)

    def old_tip(self) -> str:
        """The commit with which the newest rewrite began."""
        return self._tips()[0].hex()

    def new_tip(self) -> str | None:
        """The commit that the newest rewrite made the tip; None: nothing was left."""
        tip = self._tips()[1]
        return None if tip is None else tip.hex()

    def _tips(self) -> tuple[bytes, bytes | None]:
        with _damage(self.file):
            row = self._db.execute("SELECT old_tip, new_tip FROM rewrite").fetchone()
        if row is None:
            raise RepositoryDamaged(f"{self.file.parent.name}: {self.file.name} is of no rewrite")
        return row[0], row[1]


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise RepositoryDamaged(f"{file.parent.name}: {file.name}: {error}") from error


class MapKeeper:
    """The map that counts, opened once and again only when it is another. One per repository."""

    def __init__(self) -> None:
        self._open: IdMap | None = None
        self._known: tuple[int, ...] = ()

    def get(self, path: Path, git: pygit2.Repository) -> IdMap | None:
        """The map that counts now; None: the history was never rewritten.

        Raises:
            RepositoryDamaged: it cannot be read.
        """
        while True:
            pending = _identity(path / PENDING_NAME)
            file = path / (PENDING_NAME if pending and _counts(path, git) else FILE_NAME)
            identity = _identity(file)
            if identity == self._known and (identity or file.name == FILE_NAME):
                return self._open
            self.close()
            if not identity and file.name == FILE_NAME:
                return None
            try:
                self._open, self._known = IdMap(file), identity
            except RepositoryDamaged:
                if _identity(file) == identity:
                    raise
                # It was renamed since we looked.

    def close(self) -> None:
        """Release the file."""
        if self._open is not None:
            self._open.close()
        self._open, self._known = None, ()


def _identity(file: Path) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _counts(path: Path, git: pygit2.Repository) -> bool:
    """Whether the rewrite of the pending map took effect."""
    try:
        pending = IdMap(path / PENDING_NAME)
    except RepositoryDamaged:
        if (path / PENDING_NAME).exists():
            raise
        return False
    try:
        old_tip = pending.old_tip()
    finally:
        pending.close()
    main = refs.read_main(path)
    if main is None or main == old_tip:
        return main is None
    try:
        return not git.descendant_of(pygit2.Oid(hex=main), pygit2.Oid(hex=old_tip))
    except (KeyError, ValueError, pygit2.GitError):
        # The old commit was pruned, so nothing is above it.
        return True


def settle(path: Path) -> None:
    """Rename or remove a pending map. Only for who holds the flock exclusively.

    Raises:
        RepositoryDamaged: it cannot be read.
        OSError: the file system refused.
    """
    pending = path / PENDING_NAME
    if not pending.exists():
        return
    if _counts(path, pygit2.Repository(str(path))):
        durable.rename(pending, path / FILE_NAME)
    else:
        durable.remove(pending)
    durable.sync_directory(path)
    durable.failpoint("map-settled")


def keep_before(path: Path, stamp: str) -> None:
    """Keep the map as it is now for an undoing; durable when this returns.

    Raises:
        OSError: the file system refused.
    """
    durable.replace_file(path / f"{BEFORE_PREFIX}{stamp}", _pieces(path / FILE_NAME))


def drop_before(path: Path, stamps: Collection[str] = ()) -> None:
    """Remove all maps of before but those of the rewrites with these stamps."""
    kept = {f"{BEFORE_PREFIX}{stamp}" for stamp in stamps}
    for name in os.listdir(path):
        if name.startswith(BEFORE_PREFIX) and name not in kept:
            durable.remove(path / name)


def _pieces(file: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        while piece := opened.read(_COPY_BYTES):
            yield piece


def write_pending(path: Path, rewrite: Rewrite, *, before: str | None = None) -> None:
    """Make the map as it is to be after `rewrite`, durable, beside the one that counts.

    Args:
        before: go on from the map before the rewrite of this stamp; None: from the one that counts.

    Raises:
        RepositoryDamaged: the map that there is cannot be read.
        OSError: the file system refused.
    """
    temporary = durable.temporary_name(path, "tmp_")
    try:
        last = FILE_NAME if before is None else f"{BEFORE_PREFIX}{before}"
        # SQLite takes an empty file for a new one.
        durable.create_file(temporary, _pieces(path / last))
        with contextlib.closing(sqlite3.connect(temporary)) as db:
            _fill(db, rewrite)
        durable.sync_file(temporary)
        durable.rename(temporary, path / PENDING_NAME)
    except sqlite3.OperationalError as error:
        number = errno.ENOSPC if "full" in str(error) else errno.EIO
        raise OSError(number, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise RepositoryDamaged(f"{path.name}: {FILE_NAME}: {error}") from error
    finally:
        durable.remove(temporary)
    durable.sync_directory(path)
    durable.failpoint("map-written")


def _fill(db: sqlite3.Connection, rewrite: Rewrite) -> None:
    # The file has no reader yet, and is synced whole when it is complete.
    db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY;")
    db.executescript(_SCHEMA)
    db.execute("DELETE FROM rewrite")
    new_tip = None if rewrite.new_tip is None else bytes.fromhex(rewrite.new_tip)
    db.execute(
        "INSERT INTO rewrite VALUES (?, ?, ?)",
        (bytes.fromhex(rewrite.old_tip), new_tip, rewrite.made_s),
    )
    db.executemany(
        "INSERT INTO step VALUES (?, ?, ?)",
        ((old, new, rewrite.made_s if new is None else None) for old, new in rewrite.commits),
    )
    db.execute(
        "UPDATE commits SET new = step.new, removed_s = step.removed_s"
        " FROM step WHERE commits.new = step.old"
    )
    db.execute("INSERT OR REPLACE INTO commits SELECT old, new, removed_s FROM step")
    # What an earlier rewrite replaced may be what this one makes again.
    db.execute("DELETE FROM commits WHERE old = new OR old IN (SELECT new FROM step)")
    db.executemany(
        "INSERT OR REPLACE INTO backups VALUES (?, ?, ?, ?)",
        (
            (
                _packed(gone.backup_id),
                None if gone.device_id is None else _packed(gone.device_id),
                bytes.fromhex(gone.sha),
                gone.committed_s,
            )
            for gone in rewrite.removed
        ),
    )
    db.executemany(
        "INSERT OR REPLACE INTO binaries VALUES (?, ?)",
        ((_packed(backup_id), rewrite.made_s) for backup_id in rewrite.binaries),
    )
    if rewrite.forgotten is not None:
        device = _packed(rewrite.forgotten)
        db.execute("UPDATE backups SET device_id = NULL WHERE device_id = ?", (device,))
    db.commit()
    if rewrite.forgotten is not None:
        # So that no freed page holds what was overwritten.
        db.execute("VACUUM")


def _packed(text: str) -> bytes:
    return uuid.UUID(text).bytes


def _text_of(packed: bytes) -> str:
    return str(uuid.UUID(bytes=packed))
