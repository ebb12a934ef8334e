"""The history index: answers a device's history at the cost of the answer. Derived from git.

The reader's algorithm
----------------------
An answer is always what git would answer for one given commit, the `tip`:

1. Open the file and read its root. It says for which commit the file is complete.
2. That is the tip: answer from the rows, each checked as it is read.
3. The file is ahead (the branch moved between reading the ref and opening the file): the tip is
   among its newest commits; answer from the rows up to that one.
4. The file is behind (between the ref's move and the index's, or because nobody could write it):
   walk from the tip down to the file's commit, compare root trees on the way, and go on with the
   rows. A merge on the way, or no such commit below the tip (a rewritten history): step 5.
5. The file is absent, locked, of another format, or a checksum is wrong: answer from git alone,
   by walking. The answer is the same; it takes as long as the tenant's history.

A process that finds damage creates `confkeep.index-damaged` beside the file, if it may write. The
next writer then rebuilds the index.

The writer adds a batch's rows after the ref has moved, in one transaction with the root. The index
is never the truth, and no error of its file reaches the caller.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from typing import TypeVar

import pygit2
from pygit2.enums import SortMode

from confkeep.errors import NotInStore
from confkeep.labels import Labels
from confkeep.routeros.loss import LOOK_BACK
from worker.store.history import index_build
from worker.store.history.index_build import MergedHistory
from worker.store.history.index_file import IndexFile
from worker.store.history.index_keeper import DAMAGE_MARK as DAMAGE_MARK
from worker.store.history.index_keeper import INDEX_NAME as INDEX_NAME
from worker.store.history.index_keeper import IndexKeeper, raw_id, tells_damage_of_git
from worker.store.history.index_rows import Entry, Unusable, labels_of
from worker.store.repository import headers, reader
from worker.store.repository.backup import Detail, Version, checked_uuid, pack_uuid, unpack_uuid
from worker.store.repository.detail import exports_of, read_detail
from worker.store.repository.headers import BACKUP_ID_HEADER
from worker.store.repository.tenant_repository import TenantRepository

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the backups and the devices of a batch before it is committed."""

    #: The commits of those backup ids that are in git.
    commits: dict[str, str]
    #: As `HistoryIndex.labels` and `HistoryIndex.own_names` give them.
    labels: dict[str, Labels]
    own_names: dict[str, str | None]


def open_index(repository: TenantRepository) -> HistoryIndex:
    """The repository's index, whatever its state. Reads and writes nothing until it is used."""
    return HistoryIndex(repository)


class HistoryIndex(IndexKeeper):
    """The index of one repository; a context manager. Not safe to share between threads.

    Reading methods never write rows. `append` and `catch_up` may only be called by a process that
    holds the repository's writer lock.
    """

    def known_before(self, device_ids: Mapping[str, str], tip: str | None) -> Known:
        """Make the index complete for `tip`, and tell what a batch on top of it has to know.

        Args:
            device_ids: the device of each backup id.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        known = self._known_at_once(device_ids, tip)
        if known is not None:
            return known
        self.catch_up(tip)
        devices = set(device_ids.values())
        return Known(
            self.find_backup_ids(device_ids.keys(), tip),
            self.labels(devices, tip),
            self.own_names(tip, devices),
        )

    def _known_at_once(self, device_ids: Mapping[str, str], tip: str | None) -> Known | None:
        """The usual answer, in one transaction: the file is complete, and no backup is in it yet; else None."""
        if tip is None or self._mark.exists():
            return None
        devices = {pack_uuid(device_id): device_id for device_id in device_ids.values()}
        try:
            file = self._open_writer()
            with file.reading() as root:
                if root.tip != raw_id(tip) or file.numbers_of(map(pack_uuid, device_ids)):
                    return None
                labels, own_names = file.labels(devices), file.own_names(devices)
        except Unusable:
            # Whoever asks next meets it again, and knows what to do.
            return None
        return Known(
            {},
            {devices[device]: found for device, found in labels.items()},
            {devices[device]: name for device, name in own_names.items()},
        )

    @tells_damage_of_git
    def find_backup_ids(
        self, backup_ids: Collection[str], tip: pygit2.Oid | str | None
    ) -> dict[str, str]:
        """Those of `backup_ids` that are in the history of `tip`, with their commits.

        Exact for that tip: an id that is not in the answer is not in git. An id that is in several
        commits gets the newest.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None or not backup_ids:
            return {}
        try:
            return self._find(frozenset(backup_ids), raw_tip)
        except Unusable as error:
            self._note(error)
        found = reader.find_backup_ids(
            self._repository, frozenset(backup_ids), tip=pygit2.Oid(raw=raw_tip)
        )
        return {backup_id: str(commit.id) for backup_id, commit in found.items()}

    def _find(self, backup_ids: frozenset[str], tip: bytes) -> dict[str, str]:
        with self._reading() as file:
            newest, missing = self._locate(file, tip)
            found: dict[str, str] = {}
            for at in range(0, len(missing), 20):
                commit = index_build.read_commit(self._git, missing[at : at + 20].hex())
                backup_id = headers.id_in_header(commit.raw, BACKUP_ID_HEADER)
                if backup_id in backup_ids:
                    found.setdefault(backup_id, commit.sha)
            wanted = {pack_uuid(backup_id): backup_id for backup_id in backup_ids - found.keys()}
            for packed, numbers in file.numbers_of(wanted).items():
                for number in sorted(numbers, reverse=True):
                    if number > newest:
                        continue
                    commit = index_build.read_commit(self._git, file.sha_of(number).hex())
                    # Two ids may share a hash, so compare with the commit.
                    if headers.id_in_header(commit.raw, BACKUP_ID_HEADER) == wanted[packed]:
                        found[wanted[packed]] = commit.sha
                        break
        return found

    def _locate(self, file: IndexFile, tip: bytes) -> tuple[int, bytes]:
        """How `tip` relates to the file: the number of the newest commit that counts, and what it lacks.

        Raises:
            Unusable: the rows cannot answer for that tip.
        """
        known, newest = file.root.tip, file.root.commits - 1
        if known == tip:
            return newest, b""
        number = self._number_of(file, tip) if known is not None else None
        if number is not None:
            if number <= file.root.base:
                raise Unusable("the tip is older than the newest merge")
            return number, b""
        missing, bottom = self._below(tip, known)
        if bottom != known:
            raise Unusable("the file is not of this history")
        return newest, missing

    def _number_of(self, file: IndexFile, sha: bytes) -> int | None:
        """The number of a commit of git; None if the file does not have it, or far below its newest."""
        made = index_build.read_commit(self._git, sha.hex()).entry(()).version
        if made.packed_backup_id is None:
            return file.number_of(sha)
        return file.number_by_backup(sha, made.packed_backup_id)

    @tells_damage_of_git
    def commits_after(
        self,
        seen: pygit2.Oid | str | None,
        *,
        tip: pygit2.Oid | str | None,
        since_s: int = 0,
        limit: int,
    ) -> list[str] | None:
        """The commits of `tip` after one of them, oldest first; with a merge, in an order that stays the same.

        Args:
            seen: None: from the first one with `since_s`, or a later second, as the committer's date.
            limit: the most to return.

        Returns:
            None if `seen` is neither in the history of `tip` nor above it.
        """
        raw_tip, raw_seen = raw_id(tip), raw_id(seen)
        if raw_tip is None:
            return []
        try:
            with self._reading() as file:
                newest, missing = self._locate(file, raw_tip)
                above = [missing[at : at + 20].hex() for at in range(len(missing) - 20, -1, -20)]
                if raw_seen is None:
                    first: int | None = file.first_since(since_s) if since_s else 0
                elif raw_seen.hex() in above:
                    return above[above.index(raw_seen.hex()) + 1 :][:limit]
                else:
                    number = file.number_of(raw_seen, most=file.root.commits)
                    first = None if number is None else number + 1
                if first is None:
                    return None
                found = file.shas(first, min(limit, max(0, newest + 1 - first)))
            return [*(sha.hex() for sha in found), *above][:limit]
        except Unusable as error:
            self._note(error)
        order = SortMode.TOPOLOGICAL | SortMode.REVERSE
        every = list(self._git.walk(pygit2.Oid(raw=raw_tip), order))
        ids = [bytes(commit.id.raw) for commit in every]
        if raw_seen is None:
            wanted = (n for n, commit in enumerate(every) if commit.commit_time >= since_s)
            at = next(wanted, len(every))
        elif raw_seen in ids:
            at = ids.index(raw_seen) + 1
        else:
            return [] if self._is_below(raw_tip, raw_seen) else None
        return [sha.hex() for sha in ids[at : at + limit]]

    def _is_below(self, commit: bytes, other: bytes) -> bool:
        try:
            return self._git.descendant_of(pygit2.Oid(raw=other), pygit2.Oid(raw=commit))
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def last_seen(self, device_id: str, *, tip: pygit2.Oid | str | None) -> dt.datetime | None:
        """When a device was last backed up, changed or not; None if not known to the index.

        Answers only from the index, and only if that is complete for `tip`.
        """
        device = checked_uuid("device_id", device_id)
        try:
            with self._reading() as file:
                if file.root.tip is None or file.root.tip != raw_id(tip):
                    return None
                seen_s = file.last_seen(pack_uuid(device))
        except Unusable as error:
            self._note(error)
            return None
        return None if seen_s is None else dt.datetime.fromtimestamp(seen_s, dt.UTC)

    @tells_damage_of_git
    def all_last_seen(self, tip: pygit2.Oid | str | None) -> dict[str, dt.datetime]:
        """When each device was last backed up, changed or not, up to `tip` or a later commit.

        Reads a row for each device, and the commits that the file lacks; without a file, the whole
        history.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        seen_s, above = self._known(
            raw_tip,
            lambda file, _newest: file.all_last_seen(),
            lambda history: dict(history.seen),
        )
        for entry in above:
            seen_s.update(dict.fromkeys(entry.seen, entry.version.committed_s))
        return {
            unpack_uuid(device): dt.datetime.fromtimestamp(at_s, dt.UTC)
            for device, at_s in seen_s.items()
        }

    @tells_damage_of_git
    def labels(
        self, device_ids: Collection[str], tip: pygit2.Oid | str | None
    ) -> dict[str, Labels]:
        """The labels of those devices that ever had any, as of `tip` or a later commit.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        wanted = {pack_uuid(device_id): device_id for device_id in device_ids}
        found = self._labels(tip, lambda file: file.labels(wanted))
        return {wanted[device]: labels for device, labels in found.items() if device in wanted}

    @tells_damage_of_git
    def all_labels(self, tip: pygit2.Oid | str | None) -> dict[str, Labels]:
        """As `labels`, for all devices."""
        found = self._labels(tip, IndexFile.all_labels)
        return {unpack_uuid(device): labels for device, labels in found.items()}

    def _labels(
        self,
        tip: pygit2.Oid | str | None,
        of_file: Callable[[IndexFile], dict[bytes, Labels]],
    ) -> dict[bytes, Labels]:
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        try:
            with self._reading() as file:
                _newest, missing = self._locate(file, raw_tip)
                known = of_file(file)
        except Unusable as error:
            self._note(error)
            order = SortMode.TOPOLOGICAL | SortMode.REVERSE
            walk = self._git.walk(pygit2.Oid(raw=raw_tip), order)
            return labels_of(self._heads(str(commit.id) for commit in walk))
        oldest_first = range(len(missing) - 20, -1, -20)
        return known | labels_of(self._heads(missing[at : at + 20].hex() for at in oldest_first))

    @tells_damage_of_git
    def own_names(
        self, tip: pygit2.Oid | str | None, device_ids: Collection[str] | None = None
    ) -> dict[str, str | None]:
        """The names in the devices' newest exports, as of `tip` or a later commit; None for an export
        without one.

        Args:
            device_ids: None means all devices.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        wanted = None if device_ids is None else set(map(pack_uuid, device_ids))
        try:
            found, above = self._in_file(raw_tip, lambda file, _newest: file.own_names(wanted))
        except Unusable as error:
            self._note(error)
            found = index_build.own_names(self._git, raw_tip, wanted)
        else:
            changed = {device for entry in above for device in entry.changed}
            if wanted is not None:
                changed &= wanted
            if changed:
                found |= index_build.own_names(self._git, raw_tip, changed)
        return {unpack_uuid(device): name for device, name in found.items()}

    def _heads(self, shas: Iterable[str]) -> Iterator[Entry]:
        """What the headers of commits say. The devices that they changed are left out."""
        return (index_build.read_commit(self._git, sha).entry(()) for sha in shas)

    @tells_damage_of_git
    def devices(self, tip: pygit2.Oid | str | None) -> dict[str, tuple[int, Version]]:
        """All devices that have versions, with their number and the newest, without details; last changed first.

        Reads a row for each version, and the commits that the file lacks; without a file, the whole
        history.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        found, above = self._known(raw_tip, IndexFile.devices, _devices_of)
        for entry in above:
            for device in entry.changed:
                many, _older = found.pop(device, (0, None))
                found[device] = many + 1, entry.version
        return {unpack_uuid(device): row for device, row in reversed(found.items())}

    @tells_damage_of_git
    def last_changes(
        self, tip: pygit2.Oid | str | None, device_ids: Collection[str] | None = None
    ) -> dict[str, dt.datetime]:
        """When the configurations of devices last changed, as the committer's dates of those versions.

        Reads the files of versions that the index lacks, but of none that it has: devices of which it does not
        know it are left out.

        Args:
            device_ids: None means all devices.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        wanted = None if device_ids is None else set(map(pack_uuid, device_ids))
        try:
            found, above = self._in_file(
                raw_tip, lambda file, newest: file.last_changes(wanted, newest)
            )
        except Unusable as error:
            self._note(error)
            return {}
        for entry in above:
            version = entry.version
            for device in entry.changed:
                if wanted is None or device in wanted:
                    name = unpack_uuid(device)
                    if read_detail(self._repository, version.sha, name, tuple).export_changed:
                        found[device] = version.committed_s
        return {
            unpack_uuid(device): dt.datetime.fromtimestamp(at_s, dt.UTC)
            for device, at_s in found.items()
        }

    def _known(
        self,
        tip: bytes,
        of_file: Callable[[IndexFile, int], dict[bytes, _Value]],
        of_history: Callable[[MergedHistory], dict[bytes, _Value]],
    ) -> tuple[dict[bytes, _Value], Iterator[Entry]]:
        """What the file says, or else the history up to the newest merge; and the commits above."""
        try:
            return self._in_file(tip, of_file)
        except Unusable as error:
            self._note(error)
        missing, below = self._below(tip, b"")
        merged = None if below is None else index_build.read_merged(self._git, below.hex(), None)
        known = {} if merged is None else of_history(merged)
        return known, index_build.linear_entries(self._git, below, missing)

    def _in_file(
        self, tip: bytes, of_file: Callable[[IndexFile, int], dict[bytes, _Value]]
    ) -> tuple[dict[bytes, _Value], Iterator[Entry]]:
        """What the file says, and the commits up to `tip` that it lacks, oldest first.

        Raises:
            Unusable: the file cannot tell.
        """
        with self._reading() as file:
            newest, missing = self._locate(file, tip)
            known, below = of_file(file, newest), file.root.tip
        return known, index_build.linear_entries(self._git, below, missing)

    @tells_damage_of_git
    def versions(
        self,
        device_id: str,
        *,
        tip: pygit2.Oid | str | None,
        limit: int | None = None,
        before: str | None = None,
        config_changes_only: bool = False,
        details: bool = False,
    ) -> list[Version]:
        """The commits that changed a device, newest first, as `git log TIP -- DEVICE` lists them.

        Args:
            limit: the most versions to return; None: all.
            before: the full or abbreviated id of a version: return only the versions after it in
                the list, which are older.
            config_changes_only: only versions whose export differs in more than volatile lines.
            details: also fill line counts, sizes, `export_changed` and `suspect`. Reads the files
                of each version that confkeep did not write; the result is stored if the file may be
                written.

        Raises:
            InvalidId: an id is not one.
            NotInStore: `before` is no version of the device.
        """
        device = checked_uuid("device_id", device_id)
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return []
        start = None
        if before is not None:
            start = bytes(reader.find_commit(self._repository, before).id.raw)
        most = None if config_changes_only else limit
        try:
            rows = self._rows(
                pack_uuid(device), raw_tip, limit, start, only_changed=config_changes_only
            )
            if config_changes_only and any(row.detail is None for row in rows):
                # Those whose files have to be read may turn out to be unchanged.
                rows = self._rows(pack_uuid(device), raw_tip, None, start)
        except Unusable as error:
            self._note(error)
            walk = reader.walk_versions(self._repository, device, tip=pygit2.Oid(raw=raw_tip))
            rows = list(islice(walk, most if start is None else None))
        if start is not None:
            ids = [row.id for row in rows]
            if start not in ids:
                raise NotInStore(
                    f"commit {before} is no version of device {device}",
                    hint="Without --before, the device's versions are listed with their commits.",
                )
            rows = rows[ids.index(start) + 1 :]
        if details or config_changes_only:
            rows = self._with_details(device, rows, limit, only_changed=config_changes_only)
        return rows[:limit]

    @tells_damage_of_git
    def next_version(
        self, device_id: str, sha: str, *, tip: pygit2.Oid | str | None
    ) -> Version | None:
        """The version of a device that came after one of its versions; None if none has, up to `tip`.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        device, raw_tip = pack_uuid(checked_uuid("device_id", device_id)), raw_id(tip)
        if raw_tip is None:
            return None
        try:
            with self._reading() as file:
                newest, missing = self._locate(file, raw_tip)
                place = self._place_of(file, device, bytes.fromhex(sha))
                if place is not None and not missing:
                    return file.version_after(device, place, newest)
        except Unusable as error:
            self._note(error)
        listed = self.versions(device_id, tip=tip)
        return next((newer for newer, one in pairwise(listed) if one.sha == sha), None)

    def _place_of(self, file: IndexFile, device: bytes, sha: bytes) -> int | None:
        number = self._number_of(file, sha)
        return None if number is None else file.place_of(device, number)

    def exports_below(
        self, device_id: str, tip: pygit2.Oid | str | None, skip: int
    ) -> Iterator[bytes]:
        """The exports of a device's newest versions up to `tip`, newest first, without the first `skip`.

        No more than are looked at for the last good one. Ends at one that git lacks.
        """
        rows = self.versions(device_id, tip=tip, limit=LOOK_BACK + skip)
        yield from exports_of(self._repository, (row.sha for row in rows[skip:]), device_id)

    def _rows(
        self,
        device: bytes,
        tip: bytes,
        most: int | None,
        start: bytes | None,
        *,
        only_changed: bool = False,
    ) -> list[Version]:
        """The versions up to `tip`; those that are newer than `start` may be left out, and do not count.

        Args:
            only_changed: leave out those that are known to have changed only volatile lines.
        """
        with self._reading() as file:
            newest, missing = self._locate(file, tip)
            rows = []
            place = None if start is None else self._place_of(file, device, start)
            if start is not None and most is not None:
                most = None if place is None else most + 1
            if place is not None and place <= newest:
                newest = place
            elif missing:
                above = index_build.linear_entries(self._git, file.root.tip, missing)
                rows = [entry.version for entry in above if device in entry.changed]
                rows.reverse()
            rest = None if most is None else max(0, most - len(rows))
            found = file.versions(device, newest)
            if only_changed:
                found = (row for row in found if row.id == start or _may_have_changed(row))
            rows.extend(islice(found, rest))
            return rows

    def _with_details(
        self, device: str, rows: list[Version], limit: int | None, *, only_changed: bool
    ) -> list[Version]:
        """Rows with details; looks up what is unknown, and keeps it if it can."""
        filled: list[Version] = []
        learnt: dict[bytes, Detail] = {}
        for row in rows:
            if limit is not None and len(filled) >= limit:
                break
            detail = row.detail
            if detail is None:
                detail = learnt[row.id] = read_detail(
                    self._repository,
                    row.sha,
                    device,
                    partial(self.exports_below, device, row.sha, skip=2),
                )
            if detail.export_changed or not only_changed:
                filled.append(replace(row, detail=detail))
        if learnt:
            self._keep(pack_uuid(device), learnt)
        return filled

    def _keep(self, device: bytes, learnt: dict[bytes, Detail]) -> None:
        # Readers may write these rows too: no row depends on another.
        try:
            if not self._path.exists():
                return
            with closing(IndexFile(self._path, write=True)) as file:
                file.add_details(device, learnt)
        except Unusable as error:
            self._note(error)


def _may_have_changed(row: Version) -> bool:
    return row.detail is None or row.detail.export_changed


def _devices_of(history: MergedHistory) -> dict[bytes, tuple[int, Version]]:
    """Like `IndexFile.devices`."""
    numbers = {entry.version.id: number for number, entry in enumerate(history.commits)}
    listed = sorted(history.versions.items(), key=lambda found: numbers[found[1][-1].id])
    return {device: (len(versions), versions[-1]) for device, versions in listed}
