"""The history index's file: its SQLite tables and how they are read; it never looks into git.

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
    detail    (device, commit): line counts and sizes of a version that was indexed without, each
              with its CRC-32. A commit may be a version of several devices.

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
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

from confkeep import modes
from worker.store.index_format import (
    BUCKETS,
    DETAIL,
    FIRST,
    HAS_BACKUP_ID,
    HEAD,
    LOG_ROW,
    VERSION,
    Damaged,
    Detail,
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
from worker.store.index_seal import Seal

#: How long a reader waits while the writer's transaction is being written.
_BUSY_S: Final = 2.0

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
    """An open index file, to be read. Every method raises `Unusable`, and nothing else, for a bad one."""

    #: How SQLite is to open it.
    _MODE: ClassVar[str] = "ro"

    def __init__(self, path: Path) -> None:
        with sqlite_errors():
            if self._MODE == "rwc":
                # SQLite would go by the umask. What it creates beside takes this one's permissions.
                # Never an existing file: closing it would drop the locks of this process on it.
                with suppress(OSError):
                    os.close(modes.create(path, os.O_RDWR | os.O_EXCL))
            quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            self._db = sqlite3.connect(
                f"file:{quoted}?mode={self._MODE}",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.text_factory = bytes
            try:
                self._prepare()
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

    def _prepare(self) -> None:
        """What is to be said to SQLite before the file is used."""

    def close(self) -> None:
        """Release the file."""
        self._db.close()
        self._seal.close()

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

    def all_last_seen(self) -> dict[bytes, int]:
        """All devices with when each was last backed up, changed or not."""
        with sqlite_errors():
            return {
                head[0]: head[4]
                for number in range(BUCKETS)
                for head in HEAD.iter_unpack(self._bucket(number))
            }

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

    def detail(self, device: bytes, sha: bytes) -> Detail | None:
        """Details of a version that were added later; None: not here, or not to be trusted."""
        with sqlite_errors():
            found = self._db.execute(
                "SELECT record FROM detail WHERE device=? AND sha=?", (device, sha)
            ).fetchone()
            if found is None:
                return None
            record = _as_bytes(found[0])
            data, crc = record[:-4], record[-4:]
            if int(crc32(device + sha + data)).to_bytes(4, "little") != crc:
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


def journal_of(path: Path) -> Path:
    """Where SQLite keeps what the transaction that is running replaced."""
    return path.with_name(f"{path.name}-journal")


def _text_of(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _place_of(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
