"""Writing the history index's file, one transaction for each batch; it never looks into git.

`index_file` says what the tables mean.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from worker.store.index_file import IndexFile, journal_of, sqlite_errors
from worker.store.index_format import (
    BLOCK,
    DETAIL,
    FIRST,
    HAS_BACKUP_ID,
    HEAD,
    LOG_ROW,
    UNKNOWN,
    VERSION,
    Damaged,
    Detail,
    Entry,
    Root,
    Segment,
    Unusable,
    bucket_crc,
    bucket_of,
    crc32,
    find_head,
    hash_of,
    version_digest,
)
from worker.store.index_seal import SEAL_NAME

_SCHEMA = """
CREATE TABLE IF NOT EXISTS root (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS head (bucket INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS version (device BLOB, position INTEGER, record BLOB NOT NULL,
    PRIMARY KEY (device, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS segment (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS block (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS detail (device BLOB, sha BLOB, record BLOB NOT NULL,
    PRIMARY KEY (device, sha)) WITHOUT ROWID;
"""


class IndexWriter(IndexFile):
    """An index file that is open for writing; it is made if there is none."""

    _MODE: ClassVar[str] = "rwc"

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA journal_mode=TRUNCATE").fetchall()

    def close(self) -> None:
        """Release the file, sealed."""
        with suppress(OSError, sqlite3.Error, Damaged):
            self._seal.finish(self._db)
        super().close()

    def append(self, parent: bytes | None, entries: Sequence[Entry]) -> bool:
        """Add commits in their order; rows and root in one transaction.

        Returns:
            Whether the file was complete for `parent`; if not, nothing is added.
        """
        with self._writing(len(entries)):
            if self.root.tip != parent:
                return False
            if entries:
                self._append(entries)
        return True

    def append_base(
        self,
        commits: Sequence[Entry],
        versions: Mapping[bytes, Sequence[Entry]],
        seen: Mapping[bytes, int],
    ) -> None:
        """Begin an empty index with a history that has merges.

        Args:
            commits: all of them, parents first; the last one is the base.
            versions: what `git log -- DEVICE` lists for each device, oldest first.
            seen: when each device was last backed up.
        """
        with self._writing(len(commits)):
            if self.root.commits:
                raise Unusable("another process wrote meanwhile")
            heads = _Heads(self._bucket)
            for device, listed in versions.items():
                for position, entry in enumerate(listed):
                    self._add_version(heads, device, position, entry)
                heads.seen(device, seen.get(device, 0))
            self._finish(commits, heads, base=len(commits) - 1)

    def add_details(self, device: bytes, details: Mapping[bytes, Detail]) -> None:
        """Keep details, by commit, that were looked up after a device's versions were indexed."""
        with self._writing(len(details)):
            for sha, detail in details.items():
                data = DETAIL.pack(*detail.pack())
                crc = int(crc32(device + sha + data)).to_bytes(4, "little")
                self._db.execute(
                    "INSERT OR REPLACE INTO detail VALUES (?,?,?)", (device, sha, data + crc)
                )

    @contextmanager
    def _writing(self, commits: int) -> Iterator[None]:
        with sqlite_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._seal.begin()
                self.root = self._read_root()
                if not self.root.commits:
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        self._db.execute(statement)
                    self._store_root()
                yield
                self._seal.note_changes()
                self._db.execute("COMMIT")
            except BaseException as error:
                self._seal.give_up()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, OSError):
                    raise Unusable(str(error)) from error
                raise
        # The rows are there. Without a seal only the bytes between them are not looked after.
        with suppress(OSError, sqlite3.Error, Damaged):
            self._seal.committed(self._db, commits)

    def _append(self, entries: Sequence[Entry]) -> None:
        heads = _Heads(self._bucket)
        for position, entry in enumerate(entries, self.root.commits):
            for device in entry.changed:
                self._add_version(heads, device, position, entry)
            if entry.seen is not None:
                heads.seen(entry.seen, entry.committed_s)
        self._finish(entries, heads, base=self.root.base)

    def _add_version(self, heads: _Heads, device: bytes, position: int, entry: Entry) -> None:
        flags, *rest = entry.detail.pack() if entry.detail else (0, 0, 0, UNKNOWN, UNKNOWN)
        if entry.backup_id is not None:
            flags |= HAS_BACKUP_ID
        before = heads.digest_of(device)
        record = (
            VERSION.pack(
                before, entry.sha, entry.committed_s, entry.backup_id or bytes(16), flags, *rest
            )
            + entry.message
        )
        self._db.execute("INSERT INTO version VALUES (?,?,?)", (device, position, record))
        digest = version_digest(device, position, record)
        heads.changed(device, position, digest, entry.committed_s)

    def _finish(self, entries: Sequence[Entry], heads: _Heads, base: int) -> None:
        buckets = array("I", self.root.buckets)
        for bucket, record in heads.records().items():
            buckets[bucket] = bucket_crc(bucket, record)
            self._db.execute("INSERT OR REPLACE INTO head VALUES (?,?)", (bucket, record))
        first = self.root.commits
        self._append_log(first, b"".join(entry.sha for entry in entries))
        ids = [
            (hash_of(entry.backup_id), number)
            for number, entry in enumerate(entries, first)
            if entry.backup_id is not None
        ]
        segments, next_segment = self._append_ids(ids)
        self.root = Root(
            tip=entries[-1].sha,
            commits=first + len(entries),
            base=base,
            next_segment=next_segment,
            segments=segments,
            buckets=buckets,
        )
        self._store_root()

    def _store_root(self) -> None:
        self._db.execute("INSERT OR REPLACE INTO root VALUES (1,?)", (self.root.pack(),))

    def _append_log(self, first: int, shas: bytes) -> None:
        row, inside = divmod(first, LOG_ROW)
        if inside:
            shas = self._log_row(row) + shas
        for start in range(0, len(shas), 20 * LOG_ROW):
            part = shas[start : start + 20 * LOG_ROW]
            crc = int(crc32(row.to_bytes(8, "little") + part)).to_bytes(4, "little")
            self._db.execute("INSERT OR REPLACE INTO log VALUES (?,?)", (row, part + crc))
            row += 1

    def _append_ids(self, ids: list[tuple[int, int]]) -> tuple[tuple[Segment, ...], int]:
        segments, number = list(self.root.segments), self.root.next_segment
        if not ids:
            return tuple(segments), number
        while segments and segments[-1].count <= 2 * len(ids):
            absorbed = segments.pop()
            _firsts, crcs = self._directory(absorbed)
            for block in range(absorbed.blocks):
                ids.extend(zip(*self._block(absorbed.number, block, crcs[block]), strict=True))
            self._db.execute("DELETE FROM segment WHERE number=?", (absorbed.number,))
            self._db.execute(
                "DELETE FROM block WHERE number>=? AND number<?",
                (absorbed.number << 32, (absorbed.number + 1) << 32),
            )
        ids.sort()
        firsts, crcs = [], []
        for block, start in enumerate(range(0, len(ids), BLOCK)):
            hashes, numbers = zip(*ids[start : start + BLOCK], strict=True)
            record = struct.pack(f"<{len(hashes)}Q{len(hashes)}I", *hashes, *numbers)
            firsts.append(hashes[0])
            crcs.append(crc32(record))
            self._db.execute("INSERT INTO block VALUES (?,?)", (number << 32 | block, record))
        record = struct.pack(f"<{len(firsts)}Q{len(firsts)}I", *firsts, *crcs)
        self._db.execute("INSERT INTO segment VALUES (?,?)", (number, record))
        segments.append(Segment(number, len(ids), len(firsts), crc32(record)))
        return tuple(segments), number + 1


class _Heads:
    """The heads of the devices that one transaction touches."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._buckets: dict[int, bytearray] = {}
        #: Where each device's head begins: its bucket and the offset there.
        self._at: dict[bytes, tuple[bytearray, int]] = {}

    def _head(self, device: bytes) -> tuple[bytearray, int] | None:
        known = self._at.get(device)
        if known is None:
            number = bucket_of(device)
            bucket = self._buckets.get(number)
            if bucket is None:
                bucket = self._buckets[number] = bytearray(self._read(number))
            at = find_head(bucket, device)
            if at < 0:
                return None
            known = self._at[device] = (bucket, at)
        return known

    def digest_of(self, device: bytes) -> bytes:
        """The digest of the device's newest version."""
        head = self._head(device)
        return FIRST if head is None else bytes(HEAD.unpack_from(*head)[3])

    def changed(self, device: bytes, position: int, digest: bytes, seen_s: int) -> None:
        """A version was added at `position`."""
        head = self._head(device)
        if head is None:
            bucket = self._buckets[bucket_of(device)]
            bucket += HEAD.pack(device, position, 1, digest, seen_s)
            return
        _device, _position, count, _before, _seen_s = HEAD.unpack_from(*head)
        HEAD.pack_into(*head, device, position, count + 1, digest, seen_s)

    def seen(self, device: bytes, seen_s: int) -> None:
        """The device was backed up; of one that no commit changed nothing is kept."""
        head = self._head(device)
        if head is not None:
            _device, position, count, digest, _seen_s = HEAD.unpack_from(*head)
            HEAD.pack_into(*head, device, position, count, digest, seen_s)

    def records(self) -> dict[int, bytes]:
        """The buckets as they are now."""
        return {number: bytes(bucket) for number, bucket in self._buckets.items() if bucket}


def delete_file(path: Path) -> None:
    """Remove an index file, its seal, and its journal, which must not be played into the next one."""
    for name in (journal_of(path), path, path.with_name(SEAL_NAME)):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue
