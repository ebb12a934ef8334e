"""What the history index tells of all devices: when each was last seen and changed, and what it is called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator

import pygit2
from pygit2.enums import SortMode

from confkeep.labels import Labels
from worker.store.history import index_build
from worker.store.history.index_at_tip import IndexAtTip
from worker.store.history.index_build import MergedHistory
from worker.store.history.index_file import IndexFile
from worker.store.history.index_keeper import raw_id, tells_damage_of_git
from worker.store.history.index_rows import Entry, Unusable, labels_of
from worker.store.repository.backup import Version, checked_uuid, pack_uuid, unpack_uuid
from worker.store.repository.detail import read_detail


class DeviceAnswers(IndexAtTip):
    """Never writes rows."""

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
        return (index_build.read_commit(self._git, sha).entry() for sha in shas)

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
        found, above = self._of_devices(tip, device_ids, IndexFile.last_changes)
        for device, version in above:
            name = unpack_uuid(device)
            if read_detail(self._repository, version.sha, name, tuple).export_changed:
                found[device] = version.committed_s
        return {
            unpack_uuid(device): dt.datetime.fromtimestamp(at_s, dt.UTC)
            for device, at_s in found.items()
        }


def _devices_of(history: MergedHistory) -> dict[bytes, tuple[int, Version]]:
    """Like `IndexFile.devices`."""
    numbers = {entry.version.id: number for number, entry in enumerate(history.commits)}
    listed = sorted(history.versions.items(), key=lambda found: numbers[found[1][-1].id])
    return {device: (len(versions), versions[-1]) for device, versions in listed}
