"""The seal of the history index: a CRC-32 of every page, kept beside the file; it never reads a row.

The rows vouch for each other by checksums, but a SQLite file holds bytes that belong to no row: free
pages, the gap between a page's pointers and its cells, what a moved cell left behind. No answer ever
comes from those. The seal is there so that `verify` can tell every flipped bit of the file all the
same: a disk that turns bits there will turn others.

`confkeep.index-seal` is, in little-endian order:

    4 bytes   "CKS1"
    4         the change counter of the file's state that the seal is of; all ones: it is open
    4         its number of pages; while it is open, a number that tells who opened it
    4         CRC-32 of the 12 bytes before
    4 a page  CRC-32 of each page

The writer opens the seal before it changes the file. It closes it when it closes the file, or after
some commits, under SQLite's read lock, so that nobody changes the file meanwhile. It computes what its
transactions changed: the pages in the rollback journal, those that were free before (SQLite may fill
them without journal), the first one, and those behind the old end. If anything is not as it expects,
it computes all.

While a seal is open, or is of another state of the file, it says nothing. So there is never a false
alarm, and a flipped bit that no row sees is missed in the file of a writer that lives, or that was
killed, until the next one is done. See https://www.sqlite.org/fileformat2.html for the header, the freelist and the journal.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from confkeep import modes
from worker.store.index_format import Damaged, crc32

SEAL_NAME: Final = "confkeep.index-seal"

_HEADER: Final = struct.Struct("<4sIII")
_ENTRY: Final = struct.Struct("<I")
_MAGIC: Final = b"CKS1"
#: In place of the change counter: the file is being changed.
_OPEN: Final = 0xFFFFFFFF

#: SQLite's file header: page size, change counter, size in pages, first trunk page and number of
#: free pages, and the counter again, as it was when the size was written.
_FILE_HEADER: Final = struct.Struct(">16s H 6x I I I I 52x I 4x")
_FILE_MAGIC: Final = b"SQLite format 3\0"
#: The journal's header: magic, records, nonce, the file's former size, sector and page size.
_JOURNAL: Final = struct.Struct(">8sIIIII")
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")

#: The seal is open for at most so many commits: to close it costs 40 us, a commit's share 3.
_COMMITS: Final = 16

#: Pages that are read at a time.
_RUN: Final = 64


class _State(NamedTuple):
    """What the file's header says."""

    page_bytes: int
    counter: int
    pages: int
    first_free: int
    free: int


class _Shared:
    """The descriptor of a file, one for all users in the process.

    When a process closes any descriptor of a file, the system drops all locks that it has on it,
    those of SQLite among them. So this one is closed only when no user of the file is left.
    """

    _lock: Final = threading.Lock()
    _of_file: Final[dict[tuple[int, int], _Shared]] = {}

    def __init__(self, place: tuple[int, int], descriptor: int) -> None:
        self.place = place
        self.descriptor = descriptor
        self._users = 0

    @classmethod
    def use(cls, path: Path) -> _Shared:
        """Open the file, or take what is open."""
        with cls._lock:
            shared = cls._of_file.get(_place_of(path))
            if shared is None:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                found = os.fstat(descriptor)
                place = found.st_dev, found.st_ino
                shared = cls._of_file[place] = cls(place, descriptor)
            shared._users += 1
            return shared

    def leave(self) -> None:
        """Close it if nobody else uses it."""
        with self._lock:
            self._users -= 1
            if not self._users:
                del self._of_file[self.place]
                os.close(self.descriptor)


def _place_of(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


class Seal:
    """The seal of one open index file. Every SQLite connection to the file needs one beside it,
    which is closed after the connection."""

    def __init__(self, index: Path) -> None:
        """For the file at `index`, which is there.

        Raises:
            OSError: it cannot be read.
        """
        self._index = index
        self._path = index.with_name(SEAL_NAME)
        self._journal = index.with_name(f"{index.name}-journal")
        self._file = _Shared.use(index)
        #: The seal, while it is open.
        self._descriptor = -1
        #: What the seal's header holds as long as nobody else opened it.
        self._nonce = 0
        #: The file before the transaction, and the counter that our last one left.
        self._before: _State | None = None
        self._free: set[int] | None = None
        self._counter = -1
        #: The pages whose entries are to be computed anew; None: all.
        self._pages: set[int] | None = None
        self._commits = 0

    def close(self) -> None:
        """Release the files."""
        self.give_up()
        self._file.leave()

    def give_up(self) -> None:
        """Leave the seal open, for the next writer to compute it whole."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def begin(self) -> None:
        """Open the seal. In a transaction that may write, before it changes anything.

        Raises:
            Damaged: the file's header is.
            OSError: the file system refused; then nothing may be changed.
        """
        before = self._before = self._state()
        # Read now: a long transaction fills them in the file before it commits.
        self._free = None if before is None else self._free_pages(before)
        if self._descriptor >= 0:
            if before is not None and before.counter == self._counter:
                return
            self.give_up()
        self._descriptor = modes.create(self._path, os.O_RDWR)
        if _place_of(self._index) != self._file.place:
            # The seal may be that of the file which another process put in the place of ours.
            raise FileNotFoundError(errno.ENOENT, "the index was replaced")
        sealed = _unpack(os.pread(self._descriptor, _HEADER.size, 0))
        if sealed is not None and before is not None and _contradicts(sealed, before):
            raise Damaged("the file's header is not in order")
        self._pages = set() if before is not None and sealed == before[1:3] else None
        self._commits, self._nonce = 0, secrets.randbits(32)
        self._write_header(_OPEN, self._nonce)

    def note_changes(self) -> None:
        """Find out which pages the transaction changes. Right before it commits."""
        before = self._before
        self._counter = 1 + (before.counter if before is not None else 0)
        journaled = None if before is None else self._journaled(before)
        if self._pages is None or journaled is None or self._free is None:
            self._pages = None
        else:
            self._pages.update(journaled, self._free)

    def committed(self, db: sqlite3.Connection, commits: int) -> None:
        """Close the seal if it was open for long enough. After the transaction of so many commits.

        Raises:
            OSError, sqlite3.Error: it stays open.
        """
        self._commits += commits
        if self._pages is None or self._commits >= _COMMITS:
            self.finish(db)

    def finish(self, db: sqlite3.Connection) -> None:
        """Close the seal if it is open.

        Raises:
            OSError, sqlite3.Error: it stays open.
        """
        if self._descriptor < 0:
            return
        db.execute("BEGIN")
        try:
            # The first read takes the lock.
            db.execute("PRAGMA schema_version").fetchone()
            now = self._state()
            mine = _unpack(os.pread(self._descriptor, _HEADER.size, 0)) == (_OPEN, self._nonce)
            unchanged = (
                self._before is not None and now is not None and now.counter == self._before.counter
            )
            if now is None or not mine or not (unchanged or now.counter == self._counter):
                return  # Another writer was here, and sees to it.
            if self._pages is None:
                self._write_entries(1, self._checksums(1, now.pages, now))
            else:
                self._update(now)
            os.ftruncate(self._descriptor, _HEADER.size + 4 * now.pages)
            self._write_header(now.counter, now.pages)
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.give_up()

    def check(self) -> str | None:
        """What is wrong with the file's bytes. In a transaction that reads.

        Returns:
            None: nothing is, or there is no seal of this state.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            now = self._state()
            header = os.pread(descriptor, _HEADER.size, 0)
            if not header:
                return None
            sealed = _unpack(header)
            if sealed is None:
                return "the header of its seal is damaged"
            if now is None or sealed[0] != now.counter:
                return None
            if _contradicts(sealed, now):
                return "its header does not say the number of pages that was written"
            data = os.pread(descriptor, 4 * now.pages, _HEADER.size)
            if os.fstat(descriptor).st_size != _HEADER.size + 4 * now.pages:
                return "its seal is not as long as it says"
        finally:
            os.close(descriptor)
        if os.fstat(self._file.descriptor).st_size != now.pages * now.page_bytes:
            return "it is not as long as it says"
        for first in range(1, now.pages + 1, _RUN):
            count = min(_RUN, now.pages + 1 - first)
            found = self._checksums(first, count, now)
            expected = data[4 * (first - 1) : 4 * (first - 1 + count)]
            if struct.pack(f"<{count}I", *found) != expected:
                return f"a page from {first} to {first + count - 1} is not what was written"
        return None

    # --- reading SQLite's file

    def _state(self) -> _State | None:
        data = os.pread(self._file.descriptor, _FILE_HEADER.size, 0)
        if len(data) < _FILE_HEADER.size:
            return None
        magic, page_bytes, counter, pages, first_free, free, again = _FILE_HEADER.unpack(data)
        if magic != _FILE_MAGIC or page_bytes < 512 or counter != again:
            raise Damaged("the file's header is not in order")
        return _State(page_bytes, counter, pages, first_free, free)

    def _page(self, number: int, state: _State) -> bytes:
        size = state.page_bytes
        return os.pread(self._file.descriptor, size, (number - 1) * size)

    def _checksums(self, first: int, count: int, state: _State) -> list[int]:
        """The checksums of neighbouring pages."""
        size, found = state.page_bytes, list[int]()
        for start in range(first, first + count, _RUN):
            run = min(_RUN, first + count - start)
            data = memoryview(os.pread(self._file.descriptor, run * size, (start - 1) * size))
            found.extend(int(crc32(data[at : at + size])) for at in range(0, run * size, size))
        return found

    def _journaled(self, before: _State) -> list[int] | None:
        try:
            descriptor = os.open(self._journal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            size = os.fstat(descriptor).st_size
            if not size:
                return []
            header = os.pread(descriptor, _JOURNAL.size, 0)
            if len(header) < _JOURNAL.size:
                return None
            magic, _count, _nonce, pages, sector, page_bytes = _JOURNAL.unpack(header)
            if magic != _JOURNAL_MAGIC or (pages, page_bytes) != (before.pages, before.page_bytes):
                return None
            # Without syncs there is one header, and the records follow each other to the end: the
            # page's number, the page, and a checksum.
            step = page_bytes + 8
            if (size - sector) % step:
                return None
            found = []
            for start in range(sector, size, _RUN * step):
                data = os.pread(descriptor, _RUN * step, start)
                found += [
                    int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), step)
                ]
        finally:
            os.close(descriptor)
        return found if all(1 <= page <= pages for page in found) else None

    def _free_pages(self, before: _State) -> set[int] | None:
        """The free pages; None: they are not listed as they should be."""
        found: set[int] = set()
        trunk = before.first_free
        while trunk and len(found) < before.free:
            data = self._page(trunk, before)
            following, leaves = struct.unpack_from(">II", data)
            if 8 + 4 * leaves > len(data):
                return None
            found.add(trunk)
            found.update(struct.unpack_from(f">{leaves}I", data, 8))
            trunk = following
        return found if len(found) == before.free else None

    # --- writing the seal

    def _update(self, now: _State) -> None:
        """Compute those checksums anew that may be others."""
        assert self._pages is not None
        size = os.fstat(self._descriptor).st_size
        # The first page holds the counter, which changes last. Those that are new have no journal.
        new = range((size - _HEADER.size) // 4 + 1, now.pages + 1)
        numbers = sorted(n for n in {1, *self._pages, *new} if n <= now.pages)
        first, last = numbers[0], numbers[-1]
        count = last - first + 1
        data = os.pread(self._descriptor, 4 * count, _HEADER.size + 4 * (first - 1))
        entries = bytearray(data.ljust(4 * count, b"\0"))
        for number in numbers:
            _ENTRY.pack_into(entries, 4 * (number - first), crc32(self._page(number, now)))
        self._write(first, entries)

    def _write_entries(self, first: int, entries: Sequence[int]) -> None:
        self._write(first, struct.pack(f"<{len(entries)}I", *entries))

    def _write(self, first: int, data: bytes | bytearray) -> None:
        if os.pwrite(self._descriptor, data, _HEADER.size + 4 * (first - 1)) < len(data):
            raise OSError("the seal was not written whole")

    def _write_header(self, counter: int, pages: int) -> None:
        os.pwrite(self._descriptor, _pack(counter, pages), 0)


def _contradicts(sealed: tuple[int, int], state: _State) -> bool:
    """Whether a header of the sealed state says another size: no change leaves the counter as it is."""
    counter, pages = sealed
    return counter == state.counter and pages != state.pages


def _pack(counter: int, pages: int) -> bytes:
    crc = crc32(struct.pack("<4sII", _MAGIC, counter, pages))
    return _HEADER.pack(_MAGIC, counter, pages, crc)


def _unpack(header: bytes) -> tuple[int, int] | None:
    """The change counter and the number of pages; None: damaged."""
    if len(header) != _HEADER.size:
        return None
    magic, counter, pages, _crc = _HEADER.unpack(header)
    return (counter, pages) if magic == _MAGIC and _pack(counter, pages) == header else None
