"""The history index's file: its SQLite tables and their checksums; it never looks into git.

Format
------
`confkeep.index` in the repository's folder, with a rollback journal (it works on network file
systems, and for readers who may not write, where a write-ahead log does not) and without any
sync: what a power cut leaves is found by the checksums below and then built anew.

    root      one row: format, the commit that the rest is complete for, the number of commits,
              the base (below), the checksum of each bucket of heads, and the list of segments.
              BLAKE2b over all of it.
    head      256 buckets by CRC-32 of the device. A bucket holds for each of its devices: newest
              position, number of versions, digest of the newest version, time last seen.
    version   (device, position): one commit that changed the device. The record begins with the
              digest of the device's version before, so that the digest of the newest one vouches
              for every row, their order, and that none is missing.
    log       the ids of all commits, 256 a row, CRC-32 of number and content.
    segment,  the backup ids, as 64-bit hashes in sorted runs. A segment row lists its blocks'
    block     first hashes and CRC-32s, the root lists the segments' CRC-32s: absence can be
              proved as presence can. A new run absorbs those before it that are not over twice as
              long, so there are as many runs as the logarithm of the number of commits.
    detail    line counts and sizes of versions that were indexed without, each with its CRC-32.

Everything is reached from the root by checksums, like objects in git: a page of an older or
younger state, a lost row, a flipped bit show as `Unusable`, never as another answer.

Commits are numbered from 0, parents first. In a history without merges a version's position is
its commit's number. Up to the newest merge, which is the `base`, a version's position only says
where it stands in the order of `git log -- DEVICE`; it is at most the base's number.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from worker.store.index_format import (
    BLOCK,
    BUCKETS,
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
    Row,
    Segment,
    Unusable,
    bucket_crc,
    bucket_of,
    crc32,
    find_head,
    hash_of,
    integers,
    version_digest,
)
from worker.store.index_seal import SEAL_NAME, Seal

#: How long a reader waits while the writer's transaction is being written.
_BUSY_S: Final = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS root (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS head (bucket INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS version (device BLOB, position INTEGER, record BLOB NOT NULL,
    PRIMARY KEY (device, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS segment (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS block (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS detail (sha BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
"""

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


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Whatever SQLite or a record's shape makes of damaged bytes becomes `Unusable`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _NOT_DAMAGE:
            raise Unusable(str(error)) from error
        raise Damaged(str(error)) from error
    except (struct.error, OverflowError, UnicodeError) as error:
        raise Damaged(str(error)) from error


def _as_bytes(value: object) -> bytes:
    # Damage may change a cell's type too.
    if not isinstance(value, bytes):
        raise Damaged("a record is not a blob")
    return value


class IndexFile:
    """An open index file. Every method raises `Unusable` and nothing else for a bad file."""

    def __init__(self, path: Path, *, write: bool) -> None:
        if not path.exists() and not write:
            raise Unusable("absent")
        with sqlite_errors():
            mode = "rwc" if write else "ro"
            quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            self._db = sqlite3.connect(
                f"file:{quoted}?mode={mode}",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.text_factory = bytes
            if write:
                self._db.execute("PRAGMA synchronous=OFF")
                try:
                    self._db.execute("PRAGMA journal_mode=TRUNCATE").fetchall()
                except sqlite3.Error:
                    self._db.close()
                    raise
        self.root = Root()
        self._path = path
        self._place = _place_of(path)
        try:
            self._seal = Seal(path)
        except OSError as error:
            self._db.close()
            raise Unusable(str(error)) from error

    def close(self) -> None:
        """Release the file."""
        with suppress(OSError, sqlite3.Error, Damaged):
            self._seal.finish(self._db)
        self._db.close()
        self._seal.close()

    def __del__(self) -> None:
        # Repositories may be dropped without being closed; SQLite's connection must not.
        with suppress(AttributeError):
            self._db.close()

    def has_journal(self) -> bool:
        """Whether there is a transaction that did not end."""
        try:
            return os.stat(_journal_of(self._path)).st_size > 0
        except FileNotFoundError:
            return False

    def is_at(self, path: Path) -> bool:
        """Whether the open file is the one that now has that name."""
        return self._place is not None and self._place == _place_of(path)

    @contextmanager
    def reading(self) -> Iterator[Root]:
        """Read the root, and see the state that it stands for until the block ends.

        No writer can commit meanwhile, so the block is short.
        """
        with sqlite_errors():
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
        return Root.unpack(self._record("SELECT record FROM root WHERE id=1"))

    def _record(self, query: str, *arguments: object) -> bytes:
        found = self._db.execute(query, arguments).fetchone()
        if found is None:
            raise Damaged("a row is missing")
        return _as_bytes(found[0])

    # --- devices

    def _bucket(self, number: int) -> bytes:
        expected = self.root.buckets[number]
        if not expected:
            return b""
        record = self._record("SELECT record FROM head WHERE bucket=?", number)
        if bucket_crc(number, record) != expected:
            raise Damaged("a bucket's checksum is wrong")
        return record

    def last_seen(self, device: bytes) -> int | None:
        """When the device was last backed up, changed or not; None: unknown to the index."""
        with sqlite_errors():
            bucket = self._bucket(bucket_of(device))
            at = find_head(bucket, device)
            return None if at < 0 else int(HEAD.unpack_from(bucket, at)[4])

    def check_structure(self) -> str | None:
        """What SQLite finds wrong with its pages; None: nothing."""
        with sqlite_errors():
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return None if found == b"ok" or found == "ok" else _text_of(found)

    def check_bytes(self) -> str | None:
        """What is wrong with the file, also where no row is; None: nothing. While `reading`."""
        return self._seal.check()

    def devices(self) -> dict[bytes, int]:
        """All devices with the number of their versions."""
        with sqlite_errors():
            return {
                head[0]: head[2]
                for number in range(BUCKETS)
                for head in HEAD.iter_unpack(self._bucket(number))
            }

    def versions(self, device: bytes, newest: int | None = None) -> Iterator[Row]:
        """A device's versions, newest first; each is checked before it is given.

        Args:
            newest: leave out those at higher positions.
        """
        with sqlite_errors():
            bucket = self._bucket(bucket_of(device))
            at = find_head(bucket, device)
            if at < 0:
                return
            _device, position, count, expected, _seen = HEAD.unpack_from(bucket, at)
            rows = self._db.execute(
                "SELECT position, record FROM version WHERE device=? AND position<=?"
                " ORDER BY position DESC",
                (device, position),
            )
            for found, value in rows:
                record = _as_bytes(value)
                if not count or not isinstance(found, int):
                    raise Damaged("a version too many")
                if version_digest(device, found, record) != expected:
                    raise Damaged("a version's digest is wrong")
                expected, sha, committed_s, backup_id, *detail = VERSION.unpack_from(record)
                count -= 1
                if newest is None or found <= newest:
                    yield Row(
                        sha,
                        committed_s,
                        backup_id if detail[0] & HAS_BACKUP_ID else None,
                        record[VERSION.size :],
                        Detail.unpack(*detail),
                    )
            if count or expected != FIRST:
                raise Damaged("versions are missing")

    def detail(self, sha: bytes) -> Detail | None:
        """Details that were added later; None: not here, or not to be trusted."""
        with sqlite_errors():
            found = self._db.execute("SELECT record FROM detail WHERE sha=?", (sha,)).fetchone()
            if found is None:
                return None
            record = _as_bytes(found[0])
            data, crc = record[:-4], record[-4:]
            if int(crc32(sha + data)).to_bytes(4, "little") != crc:
                return None
            return Detail.unpack(*DETAIL.unpack(data))

    # --- commits

    def sha_of(self, number: int) -> bytes:
        """The id of the commit with that number."""
        with sqlite_errors():
            shas = self._log_row(number // LOG_ROW)
            at = number % LOG_ROW * 20
            return shas[at : at + 20]

    def _log_row(self, number: int) -> bytes:
        record = self._record("SELECT record FROM log WHERE number=?", number)
        shas, crc = record[:-4], record[-4:]
        if int(crc32(number.to_bytes(8, "little") + shas)).to_bytes(4, "little") != crc:
            raise Damaged("the log's checksum is wrong")
        expected = min(LOG_ROW, self.root.commits - number * LOG_ROW)
        if len(shas) != 20 * expected:
            raise Damaged("the log is not as long as the root says")
        return shas

    def number_of(self, sha: bytes, *, most: int = 100_000) -> int | None:
        """The number of a commit, looked for among the newest `most`; None: not there."""
        with sqlite_errors():
            last = (self.root.commits - 1) // LOG_ROW
            for row in range(last, max(-1, last - most // LOG_ROW - 1), -1):
                shas = self._log_row(row)
                at = shas.find(sha)
                while at >= 0 and at % 20:
                    at = shas.find(sha, at + 1)
                if at >= 0:
                    return row * LOG_ROW + at // 20
            return None

    def numbers_of(self, backup_ids: Iterable[bytes]) -> dict[bytes, list[int]]:
        """The commits that may have these backup ids; all that have one of them are here."""
        numbers: dict[bytes, list[int]] = {}
        with sqlite_errors():
            wanted = sorted((hash_of(backup_id), backup_id) for backup_id in backup_ids)
            for segment in self.root.segments:
                firsts, crcs = self._directory(segment)
                read, block = -1, 0
                for value, backup_id in wanted:
                    # Equal hashes may begin in the block before the one that begins with them.
                    block = max(0, bisect_left(firsts, value) - 1)
                    while block < segment.blocks and firsts[block] <= value:
                        if block != read:
                            hashes, found = self._block(segment.number, block, crcs[block])
                            read = block
                        at = bisect_left(hashes, value)
                        while at < len(hashes) and hashes[at] == value:
                            numbers.setdefault(backup_id, []).append(found[at])
                            at += 1
                        block += 1
        return numbers

    def _directory(self, segment: Segment) -> tuple[Sequence[int], Sequence[int]]:
        record = self._record("SELECT record FROM segment WHERE number=?", segment.number)
        if crc32(record) != segment.crc or len(record) != 12 * segment.blocks:
            raise Damaged("a segment's checksum is wrong")
        return integers(record)

    def _block(self, segment: int, block: int, crc: int) -> tuple[Sequence[int], Sequence[int]]:
        record = self._record("SELECT record FROM block WHERE number=?", segment << 32 | block)
        if crc32(record) != crc:
            raise Damaged("a block's checksum is wrong")
        return integers(record)

    # --- writing

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

    def add_details(self, details: Mapping[bytes, Detail]) -> None:
        """Keep details that were looked up after their versions were indexed."""
        with self._writing(len(details)):
            for sha, detail in details.items():
                data = DETAIL.pack(*detail.pack())
                crc = int(crc32(sha + data)).to_bytes(4, "little")
                self._db.execute("INSERT OR REPLACE INTO detail VALUES (?,?)", (sha, data + crc))

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
    for name in (_journal_of(path), path, path.with_name(SEAL_NAME)):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _text_of(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _place_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
