"""What the history index tells of all devices: when each was last seen and changed, and what it is called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import pygit2
from pygit2.enums import SortMode

from confkeep.labels import Labels
from worker.store.history import index_build
from worker.store.history.index_at_tip import IndexAtTip, packed
from worker.store.history.index_build import oldest_first
from worker.store.history.index_file import IndexFile
from worker.store.history.index_keeper import Tip, raw_id, tells_damage_of_git
from worker.store.history.index_rows import MergedHistory, Unusable, labels_of
from worker.store.repository.backup import Version, unpack_uuid
from worker.store.repository.detail import read_detail


class DeviceAnswers(IndexAtTip):
    """Writes no rows. Where `device_ids` is None, all devices are meant."""

    @tells_damage_of_git
    def all_last_seen(self, tip: Tip) -> dict[str, dt.datetime]:
        """When each device was last backed up, changed or not, up to `tip` or a later commit.

        Reads a row for each device, and the commits that the file lacks; without a file, the whole
        history.
        """
        seen_s, above = self._known(
            tip, lambda file, _newest: file.all_last_seen(), lambda history: dict(history.seen)
        )
        for entry in above:
            seen_s.update(dict.fromkeys(entry.seen, entry.version.committed_s))
        return {
            unpack_uuid(device): dt.datetime.fromtimestamp(at_s, dt.UTC)
            for device, at_s in seen_s.items()
        }

    @tells_damage_of_git
    def labels(self, tip: Tip, device_ids: Collection[str] | None = None) -> dict[str, Labels]:
        """The labels of those devices that ever had any, as of `tip` or a later commit."""
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        wanted = packed(device_ids)
        try:
            with self._reading() as file:
                _newest, missing = self._locate(file, raw_tip)
                found = file.labels(wanted)
            above = oldest_first(missing)
        except Unusable as error:
            self._note(error)
            order = SortMode.TOPOLOGICAL | SortMode.REVERSE
            walk = self._git.walk(pygit2.Oid(raw=raw_tip), order)
            found, above = {}, (str(commit.id) for commit in walk)
        found |= labels_of(index_build.read_commit(self._git, sha).entry() for sha in above)
        return {
            unpack_uuid(device): labels
            for device, labels in found.items()
            if wanted is None or device in wanted
        }

    @tells_damage_of_git
    def own_names(
        self, tip: Tip, device_ids: Collection[str] | None = None
    ) -> dict[str, str | None]:
        """The names in the devices' newest exports, as of `tip` or a later commit; None for an export
        without one.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}
        wanted = packed(device_ids)
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

    @tells_damage_of_git
    def devices(self, tip: Tip) -> dict[str, tuple[int, Version]]:
        """All devices that have versions, with their number and the newest, without details; last changed first.

        Reads a row for each version, and the commits that the file lacks; without a file, the whole
        history.
        """
        found, above = self._known(tip, IndexFile.devices, _devices_of)
        for entry in above:
            for device in entry.changed:
                many, _older = found.pop(device, (0, None))
                found[device] = many + 1, entry.version
        return {unpack_uuid(device): row for device, row in reversed(found.items())}

    @tells_damage_of_git
    def last_changes(
        self, tip: Tip, device_ids: Collection[str] | None = None
    ) -> dict[str, dt.datetime]:
        """When the configurations of devices last changed, as the committer's dates of those versions.

        Reads the files of versions that the index lacks, but of none that it has: devices of which it does not
        know it are left out.
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
