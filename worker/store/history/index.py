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

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pygit2
from pygit2.enums import SortMode

from confkeep.labels import Labels
from worker.store.history import index_build
from worker.store.history.index_devices import DeviceAnswers
from worker.store.history.index_keeper import DAMAGE_MARK as DAMAGE_MARK
from worker.store.history.index_keeper import INDEX_NAME as INDEX_NAME
from worker.store.history.index_keeper import Tip, raw_id, tells_damage_of_git
from worker.store.history.index_rows import Unusable
from worker.store.history.index_versions import VersionAnswers
from worker.store.repository import headers, reader
from worker.store.repository.backup import pack_uuid
from worker.store.repository.headers import BACKUP_ID_HEADER
from worker.store.repository.tenant_repository import TenantRepository


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


class HistoryIndex(DeviceAnswers, VersionAnswers):
    """The index of one repository; a context manager. Not safe to share between threads.

    Who asks about a tip gets `RepositoryDamaged` where git itself cannot be read.

    Reading methods never write rows. `append` and `catch_up` may only be called by a process that
    holds the repository's writer lock.
    """

    def known_before(self, device_ids: Mapping[str, str], tip: str | None) -> Known:
        """Make the index complete for `tip`, and tell what a batch on top of it has to know.

        Args:
            device_ids: the device of each backup id.
        """
        known = self._known_at_once(device_ids, tip)
        if known is not None:
            return known
        self.catch_up(tip)
        devices = set(device_ids.values())
        return Known(
            self.find_backup_ids(device_ids.keys(), tip),
            self.labels(tip, devices),
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
    def find_backup_ids(self, backup_ids: Collection[str], tip: Tip) -> dict[str, str]:
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
            for sha in index_build.oldest_first(missing):
                commit = index_build.read_commit(self._git, sha)
                backup_id = headers.id_in_header(commit.raw, BACKUP_ID_HEADER)
                if backup_id in backup_ids:
                    found[backup_id] = sha
            wanted = {pack_uuid(backup_id): backup_id for backup_id in backup_ids - found.keys()}
            for packed, numbers in file.numbers_of(wanted).items():
                for number in sorted(numbers, reverse=True):
                    if number > newest:
                        continue
                    commit = index_build.read_commit(self._git, file.sha_of(number).hex())
                    # A damaged index of SQLite's may lead elsewhere, so compare with the commit.
                    if headers.id_in_header(commit.raw, BACKUP_ID_HEADER) == wanted[packed]:
                        found[wanted[packed]] = commit.sha
                        break
        return found

    @tells_damage_of_git
    def commits_after(
        self,
        seen: Tip,
        *,
        tip: Tip,
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
                above = list(index_build.oldest_first(missing))
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
