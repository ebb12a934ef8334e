"""The history index's file: plain SQLite tables with a checksum in each row.

It has a rollback journal, which works on network file systems and for readers who may not write. Its
file stays when a transaction has ended, with a header of zeros: syncing bytes in their old place is quicker
than syncing a file that grows and shrinks, most of all beside other programs that sync.

    state     one row: the format, the commit that the rest is complete for, how many commits there
              are, the newest merge (`base`), and the boot of the machine that writes it (below)
    commits   every commit by its number, parents first
    versions  a device and its versions, counted from 0: the commit and the tree of each, and what its files tell
    devices   when each device was last backed up, changed or not
    labels    the labels of each device
    own_names the name in the newest export of each device

A version's position is its place in `git log --reverse -- DEVICE`: the oldest has 0. So the newest one tells how
many there are, and a lost one leaves a gap. Above the newest merge, the base, numbers grow with positions.

Power cuts: a batch is not synced while the file is marked with the machine's present boot. A file
with another boot's mark was not closed, so the next writer rebuilds it. Setting and removing the
mark, and writes to a file without mark, are synced. So a turn of one batch, the usual case, leaves
a durable file without mark; longer turns remove the mark when they close the file.

SQLite's journal undoes what a killed process left half done. Reading finds a changed row by its checksum,
`confkeep verify` a lost one by comparing everything with git.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from confkeep import modes
from confkeep.labels import Labels
from worker.store.history.index_rows import (
    NO_DETAIL,
    PUT_COMMIT,
    PUT_DEVICE,
    PUT_LABELS,
    PUT_OWN_NAME,
    PUT_STATE,
    PUT_VERSION,
    SCHEMA,
    Damaged,
    Entry,
    MergedHistory,
    Root,
    Unfinished,
    Unusable,
    all_checked,
    cells_of,
    checked,
    labels_of,
    pairs_checked,
    sqlite_errors,
    version_of,
    with_crc,
)
from worker.store.repository.backup import Detail, Version

#: Grows with every change of what the rows mean. A file of another format is rebuilt.
FORMAT: Final = 7

#: A journal that a long transaction made longer is cut to this.
_JOURNAL_BYTES: Final = 64 << 10

#: Of each device the newest version up to a commit for which more is true. SQLite would go through all versions, if
#: CROSS JOIN did not tell it the order.
_NEWEST: Final = (
    "FROM devices AS d CROSS JOIN versions AS v ON v.device=d.device AND v.position="
    "(SELECT position FROM versions WHERE device=d.device AND number<=?{} ORDER BY position DESC LIMIT 1)"
)
_COMMITS: Final = " CROSS JOIN commits AS c ON c.number=v.number"

#: Of each device the newest version.
_DEVICES: Final = f"SELECT v.*, c.* {_NEWEST.format('')}{_COMMITS} ORDER BY c.number"

#: Of each device the newest version but those that changed only volatile lines, where what that changed is known.
_LAST_CHANGES: Final = (
    f"SELECT v.*, c.* {_NEWEST.format(' AND export_changed IS NOT 0')}{_COMMITS}"
    " WHERE v.export_changed NOTNULL"
)

#: Of each device whose newest version is suspect, that version.
_SUSPECTS: Final = f"SELECT v.* {_NEWEST.format('')} WHERE v.suspect NOTNULL"

_LABELS: Final = "SELECT * FROM labels AS d WHERE true"
_OWN_NAMES: Final = "SELECT * FROM own_names AS d WHERE true"

#: A device's versions with their commits, up to a commit.
_VERSIONS: Final = (
    "SELECT v.*, c.* FROM versions AS v JOIN commits AS c ON c.number=v.number"
    " WHERE device=? AND v.number<=?"
)
_LAST_PLACE: Final = "SELECT max(position) FROM versions WHERE device=?"

#: Greater than any position or number.
_LAST: Final = 1 << 62

#: The commits between which one with a backup id would stand.
_NEIGHBOURS: Final = (
    "SELECT * FROM commits WHERE backup_id<? ORDER BY backup_id DESC LIMIT 1",
    "SELECT * FROM commits WHERE backup_id>? ORDER BY backup_id LIMIT 1",
)

#: Seconds for which a reader waits for the writer's transaction.
_BUSY_S: Final = 2.0

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: Files that earlier formats kept beside the index.
_OLD_NAME: Final = "confkeep.index-seal"


@cache
def boot_id() -> bytes:
    """The id of this machine's current boot."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        # With an id of its own, no other process trusts a file that this process did not close.
        return uuid.uuid4().bytes


class IndexFile:
    """An open index file. If the file is bad, every method raises `Unusable`, and nothing else.

    Where `devices` is None, all devices are meant. `newest` is the number of a commit: versions of those with
    higher numbers do not count.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        """Open the file; create it if it is to be written and missing."""
        self.root = Root()
        self._path = path
        self._write = write
        #: Whether this connection added commits, and so has to remove the mark.
        self._appended = self._marked = False
        with sqlite_errors():
            if write and not path.exists():
                # SQLite would use the umask; what it creates beside gets this file's permissions.
                # Not for an existing file: closing it would drop this process's locks on it.
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
        self._place = _place_of(path)

    def close(self, *, sound: bool = True) -> None:
        """Release the file, durable.

        Args:
            sound: False: leave the mark, if there is one.
        """
        if sound and self._marked:
            with suppress(Unusable), self._writing(synced=True):
                self._store_root(replace(self.root, boot=None))
        self._db.close()

    def __del__(self) -> None:
        # Repositories may be dropped without being closed; SQLite's connection must be closed.
        with suppress(AttributeError):
            self._db.close()

    def is_at(self, path: Path) -> bool:
        """Whether the open file is still the one with that name."""
        return self._place is not None and self._place == _place_of(path)

    # --- reading

    @contextmanager
    def reading(self) -> Iterator[Root]:
        """Read what the file is complete for; all reads in the block see that state.

        No writer can commit meanwhile, so keep the block short.
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
        found = self._db.execute("SELECT * FROM state").fetchone()
        if found is None:
            return Root()
        _id, version, *state = checked(found)
        if version != FORMAT:
            # A reader leaves it to the workers, which may be of an older release, or of a newer one.
            raise (Damaged if self._write else Unfinished)("another format")
        root = Root(*state)
        if root.boot not in (None, boot_id()):
            # A reader cannot tell: another machine that is alive may have the file open.
            raise (Damaged if self._write else Unfinished)("another boot of a machine has it open")
        return root

    def _of_devices(
        self, query: str, devices: Iterable[bytes] | None, *values: int
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that ends with a condition on devices `d`; None means all devices."""
        if devices is None:
            yield from self._db.execute(query, values)
            return
        for device in devices:
            yield from self._db.execute(f"{query} AND d.device=?", (*values, device))

    def all_last_seen(self) -> dict[bytes, int]:
        """All devices with when each was last backed up, changed or not."""
        with sqlite_errors():
            return dict(all_checked(self._db.execute("SELECT * FROM devices")))

    def labels(self, devices: Iterable[bytes] | None = None) -> dict[bytes, Labels]:
        """The labels of those devices that have any."""
        with sqlite_errors():
            rows = all_checked(self._of_devices(_LABELS, devices))
            return {device: Labels(*labels) for device, *labels in rows}

    def own_names(self, devices: Iterable[bytes] | None = None) -> dict[bytes, str | None]:
        """The names in the devices' newest exports; None for an export without one."""
        with sqlite_errors():
            return dict(all_checked(self._of_devices(_OWN_NAMES, devices)))

    def knows(self, device: bytes) -> bool:
        """Whether any row names the device."""
        with sqlite_errors():
            found = self._db.execute(
                "SELECT 1 FROM devices WHERE device=?1 UNION SELECT 1 FROM versions WHERE device=?1"
                " UNION SELECT 1 FROM labels WHERE device=?1"
                " UNION SELECT 1 FROM own_names WHERE device=?1",
                (device,),
            )
            return found.fetchone() is not None

    def devices(self, newest: int) -> dict[bytes, tuple[int, Version]]:
        """All devices that have versions, with their number and the newest, without details.

        The last changed device is last.
        """
        with sqlite_errors():
            return {
                version[0]: (version[1] + 1, Version(*commit[1:]))
                for version, commit in pairs_checked(self._db.execute(_DEVICES, (newest,)))
            }

    def last_changes(self, devices: Iterable[bytes] | None, newest: int) -> dict[bytes, int]:
        """When the configurations of devices last changed; without those of which no row tells."""
        with sqlite_errors():
            rows = self._of_devices(_LAST_CHANGES, devices, newest)
            return {version[0]: commit[2] for version, commit in pairs_checked(rows)}

    def suspects(self, devices: Iterable[bytes] | None, newest: int) -> dict[bytes, str]:
        """Why the newest versions of devices are suspect; without those that are not, or of which no row tells."""
        with sqlite_errors():
            rows = all_checked(self._of_devices(_SUSPECTS, devices, newest))
            return {row[0]: row[-1] for row in rows}

    def versions(self, device: bytes, newest: int, place: int = _LAST) -> Iterator[Version]:
        """A device's versions, newest first; each row's checksum is verified, and that none is lost.

        Args:
            place: skip versions at higher positions.
        """
        expected = None
        with sqlite_errors():
            for found in self._db.execute(
                f"{_VERSIONS} AND position<=? ORDER BY position DESC", (device, newest, place)
            ):
                if expected not in (None, found[1]):
                    break
                expected = found[1] - 1
                yield version_of(found)
            if expected not in (None, -1):
                raise Damaged("a version is missing")

    def version_after(self, device: bytes, place: int, newest: int) -> Version | None:
        """A device's next version after the one at a position; None if that is the newest."""
        with sqlite_errors():
            found = self._db.execute(
                f"{_VERSIONS} AND position=?", (device, newest, place + 1)
            ).fetchone()
            return None if found is None else version_of(found)

    def place_of(self, device: bytes, number: int) -> int | None:
        """The position of a device's version; None if the commit with that number is none."""
        return self._number(
            "SELECT position FROM versions WHERE device=? AND number=?", device, number
        )

    def commits(self) -> Iterator[Version]:
        """All commits, parents first."""
        with sqlite_errors():
            for number, found in enumerate(
                self._db.execute("SELECT * FROM commits ORDER BY number")
            ):
                kept, *cells = checked(found)
                if kept != number:
                    raise Damaged("a commit is missing")
                yield Version(*cells)

    def sha_of(self, number: int) -> bytes:
        """The id of the commit with that number."""
        found = self.shas(number, 1)
        if not found:
            raise Damaged("a commit is missing")
        return found[0]

    def shas(self, first: int, most: int) -> list[bytes]:
        """The ids of the commits with the number `first` and those after it."""
        with sqlite_errors():
            rows = self._db.execute(
                "SELECT * FROM commits WHERE number>=? ORDER BY number LIMIT ?", (first, most)
            )
            found = [checked(row) for row in rows]
        if any(row[0] != first + place for place, row in enumerate(found)):
            raise Damaged("a commit is missing")
        return [bytes(row[1]) for row in found]

    def first_since(self, at_s: int) -> int:
        """The number of the first commit with that committer's date or a later one."""
        found = self._number("SELECT min(number) FROM commits WHERE committed_s>=?", at_s)
        return self.root.commits if found is None else found

    def number_of(self, sha: bytes, *, most: int = 100_000) -> int | None:
        """The number of a commit among the newest `most`; None if it is not there."""
        return self._number(
            "SELECT number FROM commits WHERE number>=? AND sha=? ORDER BY number DESC LIMIT 1",
            self.root.commits - most,
            sha,
        )

    def number_by_backup(self, sha: bytes, backup_id: bytes) -> int | None:
        """The number of a commit with that backup id; None if it is not there."""
        return self._number(
            "SELECT number FROM commits WHERE backup_id=? AND sha=?", backup_id, sha
        )

    def _number(self, query: str, *values: bytes | int) -> int | None:
        """What a query finds, which asks for one number; None if it finds none."""
        with sqlite_errors():
            [found] = self._db.execute(query, values).fetchone() or (None,)
            return None if found is None else int(found)

    def numbers_of(self, backup_ids: Iterable[bytes]) -> dict[bytes, list[int]]:
        """The commits that have one of these backup ids; that an id has none is proven."""
        numbers: dict[bytes, list[int]] = {}
        with sqlite_errors():
            for backup_id in backup_ids:
                found = self._db.execute(
                    "SELECT number FROM commits WHERE backup_id=?", (backup_id,)
                ).fetchall()
                if found:
                    numbers[backup_id] = [number for (number,) in found]
                else:
                    self._prove_missing(backup_id)
        return numbers

    def _prove_missing(self, backup_id: bytes) -> None:
        """Check the rows between which a backup's would stand.

        A damaged entry of SQLite's index stands out of its order, so its backup would seem not to be there and be
        committed twice. SQLite takes the id from that entry, which then does not fit the row's checksum.
        """
        for statement in _NEIGHBOURS:
            row = self._db.execute(statement, (backup_id,)).fetchone()
            if row is not None:
                checked(row)

    def check_structure(self) -> str | None:
        """What SQLite finds wrong with its pages; None if nothing."""
        with sqlite_errors():
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
            places: dict[bytes, int] = {}
            seen: dict[bytes, int] = {}
            for number, entry in enumerate(entries, self.root.commits):
                cells = cells_of(entry.version.detail)
                for name, tree in entry.changed.items():
                    place = places.get(name)
                    if place is None:
                        place = self._number(_LAST_PLACE, name)
                    places[name] = 0 if place is None else place + 1
                    versions.append((name, places[name], number, tree, *cells))
                seen.update(dict.fromkeys(entry.seen, entry.version.committed_s))
            if entries:
                labels = labels_of(entries)
                self._add(entries, versions, seen, labels, self.root.base, synced=synced)
        return True

    def append_base(self, history: MergedHistory) -> None:
        """Fill an empty index."""
        with self._writing() as synced:
            if self.root.commits:
                raise Unusable("another process wrote meanwhile")
            commits = history.commits
            number_of = {entry.version.id: number for number, entry in enumerate(commits)}
            rows = (
                (device, position, number_of[version.id], None, *NO_DETAIL)
                for device, listed in history.versions.items()
                for position, version in enumerate(listed)
            )
            base = len(commits) - 1
            self._add(commits, rows, history.seen, history.labels, base, synced=synced)

    def _add(
        self,
        entries: Sequence[Entry],
        versions: Iterable[tuple[Any, ...]],
        seen: Mapping[bytes, int],
        labels: Mapping[bytes, Labels],
        base: int,
        *,
        synced: bool,
    ) -> None:
        first = self.root.commits
        rows = (
            (
                number,
                made.id,
                made.committed_s,
                made.captured_s,
                made.packed_backup_id,
                made.raw_message,
            )
            for number, made in enumerate((entry.version for entry in entries), first)
        )
        self._db.executemany(PUT_COMMIT, map(with_crc, rows))
        self._db.executemany(PUT_VERSION, map(with_crc, versions))
        self._db.executemany(PUT_DEVICE, map(with_crc, seen.items()))
        rows_of_labels = ((device, *each.values()) for device, each in labels.items())
        self._db.executemany(PUT_LABELS, map(with_crc, rows_of_labels))
        own_names: dict[bytes, str | None] = {}
        for entry in entries:
            own_names.update(entry.own_names)
        self._db.executemany(PUT_OWN_NAME, map(with_crc, own_names.items()))
        # A writer's first batch needs no mark if it is synced. Its later batches do.
        self._marked = not synced or self._appended
        self._appended = True
        boot = boot_id() if self._marked else None
        self._store_root(Root(entries[-1].version.id, first + len(entries), base, boot))

    def _store_root(self, root: Root) -> None:
        self.root = root
        row = (1, FORMAT, root.tip, root.commits, root.base, root.boot)
        self._db.execute(PUT_STATE, with_crc(row))

    def add_details(self, device: bytes, details: Mapping[bytes, Detail]) -> None:
        """Store details, by commit, that were looked up after a device's versions were indexed."""
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
                    rows.append((*checked(tuple(cells))[:4], *cells_of(detail)))
                if not wanted:
                    break
            self._db.executemany(PUT_VERSION, map(with_crc, rows))

    @contextmanager
    def _writing(self, *, synced: bool = False) -> Iterator[bool]:
        """A transaction; creates the tables if needed. Yields whether it will be synced."""
        with sqlite_errors():
            try:
                synced = self._begin(synced=synced)
                yield synced
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _begin(self, *, synced: bool) -> bool:
        """Begin to write; an unmarked file only with syncs, which SQLite must know first."""
        if self.root.tip is not None and self.root.boot is None:
            # As it was last read. Each transaction costs some 20 system calls, so none is begun to find out.
            synced = True
        self._db.execute(f"PRAGMA synchronous={'FULL' if synced else 'OFF'}")
        self._db.execute("BEGIN IMMEDIATE")
        # Before the transaction, this would be one more that reads.
        self._db.execute("PRAGMA journal_mode=PERSIST").fetchall()
        self._db.execute(f"PRAGMA journal_size_limit={_JOURNAL_BYTES}").fetchall()
        self.root = self._read_root()
        if self.root == Root():
            if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
        elif self.root.boot is None and not synced:
            self._db.execute("ROLLBACK")
            return self._begin(synced=True)
        return synced


def delete_file(path: Path) -> None:
    """Remove an index file and its journal, which SQLite must not apply to the next file."""
    for name in (journal_of(path), path, path.with_name(_OLD_NAME)):
        name.unlink(missing_ok=True)


def journal_of(path: Path) -> Path:
    """Where SQLite keeps the pages that the running transaction replaced."""
    return path.with_name(f"{path.name}-journal")


def has_journal(path: Path) -> bool:
    """Whether a transaction has not ended: it still runs, or its process died."""
    try:
        return journal_of(path).read_bytes()[:1] not in (b"", b"\0")
    except FileNotFoundError:
        return False


def _place_of(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
