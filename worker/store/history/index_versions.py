"""What the history index tells of devices' versions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise

import pygit2

from confkeep.errors import NotInStore
from confkeep.routeros.loss import LOOK_BACK
from worker.store.history import index_build
from worker.store.history.index_at_tip import IndexAtTip
from worker.store.history.index_file import IndexFile
from worker.store.history.index_keeper import Tip, raw_id, tells_damage_of_git
from worker.store.history.index_rows import Unusable
from worker.store.repository import reader
from worker.store.repository.backup import (
    Detail,
    Version,
    checked_uuid,
    pack_uuid,
    unpack_uuid,
)
from worker.store.repository.detail import exports_of, read_detail


class VersionAnswers(IndexAtTip):
    """Writes no rows but the details that it had to look up. Where `device_ids` is None, all devices are meant."""

    @tells_damage_of_git
    def versions(
        self,
        device_id: str,
        *,
        tip: Tip,
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
    def next_version(self, device_id: str, sha: str, *, tip: Tip) -> Version | None:
        """The version of a device that came after one of its versions; None if none has, up to `tip`."""
        device, raw_tip = pack_uuid(checked_uuid("device_id", device_id)), raw_id(tip)
        if raw_tip is None:
            return None
        try:
            with self._reading() as file:
                newest, missing = self._locate(file, raw_tip)
                number = self._number_of(file, bytes.fromhex(sha))
                place = None if number is None else file.place_of(device, number)
                if place is not None and not missing:
                    return file.version_after(device, place, newest)
        except Unusable as error:
            self._note(error)
        listed = self.versions(device_id, tip=tip)
        return next((newer for newer, one in pairwise(listed) if one.sha == sha), None)

    @tells_damage_of_git
    def suspects(self, tip: Tip, device_ids: Collection[str] | None = None) -> dict[str, str]:
        """Why the newest versions of devices are suspect, by id; without those that are not.

        Reads the files of versions that the index lacks, but of none that it has: devices of which it does not
        know it are left out.
        """
        found, above = self._of_devices(tip, device_ids, IndexFile.suspects)
        for device in {device for device, _version in above}:
            found.pop(device, None)
            for version in self.versions(unpack_uuid(device), tip=tip, limit=1, details=True):
                if version.detail is not None and version.detail.suspect is not None:
                    found[device] = version.detail.suspect
        return {unpack_uuid(device): why for device, why in found.items()}

    def exports_below(self, device_id: str, tip: Tip, skip: int) -> Iterator[bytes]:
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
            rows: list[Version] = []
            number = None if start is None else self._number_of(file, start)
            place = None if number is None else file.place_of(device, number)
            if start is not None and most is not None:
                most = None if place is None else most + 1
            if number is not None and place is not None and number <= newest:
                found = file.versions(device, newest, place)
            else:
                above = index_build.linear_entries(self._git, file.root.tip, missing)
                rows += [entry.version for entry in above if device in entry.changed]
                rows.reverse()
                found = file.versions(device, newest)
            rest = None if most is None else max(0, most - len(rows))
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
