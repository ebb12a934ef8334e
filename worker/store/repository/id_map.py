"""Maps ids of rewritten and removed commits to what became of them and of their backups.

One SQLite file, `confkeep.rewritten`, never changed in place: before a rewrite moves `main`, it
makes a new file from the last one, `confkeep.rewritten-pending`. `main` decides which one is
current: the pending file, if the commit that the rewrite began with is neither `main` nor below it
any more. `docs/retention.md` gives the steps.

It is not derived from git, and is kept for ever. Its rows have checksums (`id_map_rows`): a flipped
bit that would change an answer is an error, so that no backup is committed a second time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pygit2

from confkeep.errors import SideFileDamaged
from worker.store.git import durable, refs
from worker.store.git.opening import open_git
from worker.store.repository import id_map_rows
from worker.store.repository.backup import pack_uuid, unpack_uuid
from worker.store.repository.id_map_rows import BadRow, Rows

FILE_NAME: Final = "confkeep.rewritten"
PENDING_NAME: Final = "confkeep.rewritten-pending"

#: Prefix of the map from before a rewrite that can be undone; the rewrite's stamp follows. An empty
#: file says that there was no map.
BEFORE_PREFIX: Final = f"{FILE_NAME}-before-"

_COPY_BYTES: Final = 1 << 20
_STEP: Final = (
    "CREATE TEMPORARY TABLE step (old BLOB PRIMARY KEY, new BLOB, removed_s INTEGER) WITHOUT ROWID"
)

#: Errors of reading a damaged file: SQLite's texts may be damaged too.
_DAMAGE: Final = (sqlite3.Error, UnicodeDecodeError, BadRow)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a commit."""

    old: bytes
    #: Its present id; None if it was removed.
    new: bytes | None
    #: When it was removed, in seconds since 1970; None if it was not.
    removed_s: int | None


@dataclass(frozen=True, slots=True)
class RemovedBackup:
    """A backup that was committed and whose commit was removed."""

    backup_id: str
    #: None if the device was forgotten.
    device_id: str | None
    #: The commit's id at its removal.
    sha: str
    #: The committer's date in seconds since 1970.
    committed_s: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What one rewrite adds to the map."""

    #: 40 hex digits; the new one is None if nothing is left.
    old_tip: str
    new_tip: str | None
    made_s: int
    #: The old and the new id of each commit whose id changed; the new one is None if the commit
    #: goes.
    commits: Iterable[tuple[bytes, bytes | None]]
    removed: Iterable[RemovedBackup]
    #: Backups whose binary goes.
    binaries: Iterable[str]
    #: The erased device, of which only ids of commits and backups may stay.
    forgotten: str | None = None


class IdMap:
    """One state of the map, open for reading."""

    def __init__(self, file: Path) -> None:
        """Open it.

        Raises:
            SideFileDamaged: it is no such file. The methods raise it too.
        """
        self.file = file
        with _damage(file):
            self._db = sqlite3.connect(
                f"file:{quote(str(file))}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self.rows = Rows(self._db)

    def __del__(self) -> None:
        # Repositories opened for reading are never closed.
        if hasattr(self, "_db"):
            self._db.close()

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def fates(self, prefix: str) -> list[Fate]:
        """What became of the commits whose id begins with these 4 to 40 hex digits; at most 3."""
        low = bytes.fromhex(prefix.ljust(40, "0"))
        high = bytes.fromhex(prefix.ljust(40, "f"))
        return [Fate(*row) for row in self._between("commits", low, high, 3)]

    def _between(self, table: str, low: bytes, high: bytes, most: int = 1) -> list[Any]:
        with _damage(self.file):
            return self.rows.between(table, low, high, most)

    def removed_backups(self, backup_ids: Collection[str]) -> dict[str, RemovedBackup]:
        """Those of the ids whose commits were removed."""
        found = {}
        for text in backup_ids:
            wanted = pack_uuid(text)
            for row in self._between("backups", wanted, wanted):
                found[text] = _removed(row)
        return found

    def every(self, table: str) -> Iterator[Any]:
        """All rows of a table, in the order of their keys."""
        with _damage(self.file):
            yield from self.rows.every(table)

    def every_removed_backup(self) -> Iterator[RemovedBackup]:
        """All backups whose commits were removed."""
        return map(_removed, self.every("backups"))

    def binary_removed_s(self, backup_id: str) -> int | None:
        """When the backup lost its binary, in seconds since 1970; None if it has not."""
        wanted = pack_uuid(backup_id)
        rows = self._between("binaries", wanted, wanted)
        return rows[0][1] if rows else None

    def every_fate(self) -> Iterator[Fate]:
        """What became of all commits that were rewritten or removed."""
        return (Fate(*row) for row in self.every("commits"))

    def names(self, device_id: str) -> bool:
        """Whether a row names the device."""
        return any(gone.device_id == device_id for gone in self.every_removed_backup())

    def damage(self) -> str | None:
        """What is wrong with the file; None if no answer is affected."""
        try:
            [(said,)] = self._db.execute("PRAGMA integrity_check(1)").fetchall()
            self.rows.rewrite()
            for table in ("commits", "backups", "binaries"):
                for _row in self.rows.every(table):
                    pass
        except _DAMAGE as error:
            return str(error)
        return None if said == "ok" else str(said)

    def old_tip(self) -> str:
        """The commit with which the newest rewrite began."""
        return self._tips()[0].hex()

    def new_tip(self) -> str | None:
        """The commit that the newest rewrite made the tip; None if nothing was left."""
        tip = self._tips()[1]
        return None if tip is None else tip.hex()

    def _tips(self) -> tuple[bytes, bytes | None]:
        with _damage(self.file):
            row: Any = self.rows.rewrite()
        return row[0], row[1]


def _removed(row: Any) -> RemovedBackup:
    backup_id, device_id, sha, committed_s = row
    device = None if device_id is None else unpack_uuid(device_id)
    return RemovedBackup(unpack_uuid(backup_id), device, sha.hex(), committed_s)


@contextlib.contextmanager
def _damage(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise SideFileDamaged(f"{file.parent.name}: {file.name}: {error}") from error


class MapKeeper:
    """The current map of a repository; opened again only when the file was replaced."""

    def __init__(self) -> None:
        self._open: IdMap | None = None
        self._known: tuple[int, ...] = ()

    def get(self, path: Path, git: pygit2.Repository) -> IdMap | None:
        """The current map; None if the history was never rewritten.

        Raises:
            SideFileDamaged: it cannot be read.
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
            except SideFileDamaged:
                if _identity(file) == identity:
                    raise
                # It was renamed meanwhile.

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
        with contextlib.closing(IdMap(path / PENDING_NAME)) as pending:
            old_tip = pending.old_tip()
    except SideFileDamaged:
        if (path / PENDING_NAME).exists():
            raise
        return False
    main = refs.read_main(path)
    if main is None or main == old_tip:
        return main is None
    try:
        return not git.descendant_of(pygit2.Oid(hex=main), pygit2.Oid(hex=old_tip))
    except (KeyError, ValueError, pygit2.GitError):
        # The old commit was pruned, so nothing is above it.
        return True


def settle(path: Path) -> None:
    """Rename or remove a pending map, durably. The caller holds the flock exclusively.

    `main` is made durable first: the process that moved it may have been killed before that, and a
    power cut would bring the old `main` back beside the new map.

    Raises:
        SideFileDamaged: it cannot be read.
        OSError: the file system refused.
    """
    pending = path / PENDING_NAME
    if not pending.exists():
        return
    refs.sync_main(path)
    if _counts(path, open_git(path)):
        durable.rename(pending, path / FILE_NAME)
    else:
        durable.remove(pending)
    durable.sync_directory(path)
    durable.failpoint("map-settled")


def keep_before(path: Path, stamp: str) -> None:
    """Keep a copy of the present map for an undo; durable when this returns.

    Raises:
        OSError: the file system refused.
    """
    durable.replace_file(path / f"{BEFORE_PREFIX}{stamp}", _pieces(path / FILE_NAME))


def drop_before(path: Path, stamps: Collection[str] = ()) -> None:
    """Remove the maps kept for an undo, except those of the rewrites with these stamps."""
    kept = {f"{BEFORE_PREFIX}{stamp}" for stamp in stamps}
    for name in os.listdir(path):
        if name.startswith(BEFORE_PREFIX) and name not in kept:
            durable.remove(path / name)


def _pieces(file: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        while piece := opened.read(_COPY_BYTES):
            yield piece


def write_pending(path: Path, rewrite: Rewrite, *, before: str | None = None) -> None:
    """Write the map that is to follow `rewrite` beside the current one; durable when this returns.

    Args:
        before: continue from the map kept before the rewrite of this stamp; None: from the current
            one.

    Raises:
        SideFileDamaged: the map that there is cannot be read.
        OSError: the file system refused.
    """
    last = path / (FILE_NAME if before is None else f"{BEFORE_PREFIX}{before}")
    # An empty file says that there was no map.
    there = last.exists() and (before is None or last.stat().st_size > 0)
    temporary = durable.temporary_name(path, "tmp_")
    try:
        durable.create_file(temporary, [], like=path / FILE_NAME)
        with contextlib.ExitStack() as opened, _damage(last):
            base = opened.enter_context(contextlib.closing(IdMap(last))) if there else None
            db = opened.enter_context(contextlib.closing(sqlite3.connect(temporary)))
            try:
                _fill(db, base, rewrite)
            except sqlite3.OperationalError as error:
                number = errno.ENOSPC if "full" in str(error) else errno.EIO
                raise OSError(number, str(error)) from error
        durable.sync_file(temporary)
        durable.rename(temporary, path / PENDING_NAME)
    finally:
        durable.remove(temporary)
    durable.sync_directory(path)
    durable.failpoint("map-written")


def _fill(db: sqlite3.Connection, base: IdMap | None, rewrite: Rewrite) -> None:
    # The file has no readers yet, and is synced as a whole at the end.
    db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY;")
    id_map_rows.create(db)
    db.execute(_STEP)
    if base is not None:
        # Row by row, each verified: a damaged row must not get a new checksum.
        for table in ("commits", "binaries"):
            id_map_rows.put(db, table, base.every(table))
        forgotten = None if rewrite.forgotten is None else pack_uuid(rewrite.forgotten)
        id_map_rows.put(
            db,
            "backups",
            (
                (row[0], None, *row[2:]) if forgotten is not None and row[1] == forgotten else row
                for row in base.every("backups")
            ),
        )
    new_tip = None if rewrite.new_tip is None else bytes.fromhex(rewrite.new_tip)
    id_map_rows.put(db, "rewrite", [(bytes.fromhex(rewrite.old_tip), new_tip, rewrite.made_s)])
    db.executemany(
        "INSERT INTO step VALUES (?, ?, ?)",
        ((old, new, rewrite.made_s if new is None else None) for old, new in rewrite.commits),
    )
    db.execute(
        "UPDATE commits SET new = step.new, removed_s = step.removed_s"
        " FROM step WHERE commits.new = step.old"
    )
    id_map_rows.put(db, "commits", db.execute("SELECT old, new, removed_s FROM step"))
    # This rewrite may make a commit again that an earlier one replaced.
    db.execute("DELETE FROM commits WHERE old = new OR old IN (SELECT new FROM step)")
    id_map_rows.put(
        db,
        "backups",
        (
            (
                pack_uuid(gone.backup_id),
                None if gone.device_id is None else pack_uuid(gone.device_id),
                bytes.fromhex(gone.sha),
                gone.committed_s,
            )
            for gone in rewrite.removed
        ),
    )
    id_map_rows.put(
        db, "binaries", ((pack_uuid(backup_id), rewrite.made_s) for backup_id in rewrite.binaries)
    )
    id_map_rows.seal(db)
    db.commit()
