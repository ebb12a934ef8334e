"""The history index as of a commit, the tip, which its file may be ahead of, or behind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from worker.store.history import index_build
from worker.store.history.index_file import IndexFile
from worker.store.history.index_keeper import IndexKeeper, Tip, raw_id
from worker.store.history.index_rows import Entry, MergedHistory, Unusable
from worker.store.repository.backup import Version, pack_uuid

_Value = TypeVar("_Value")


class IndexAtTip(IndexKeeper):
    """Answers by the algorithm in `worker.store.history.index`."""

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
        made = index_build.read_commit(self._git, sha.hex()).entry().version
        if made.packed_backup_id is None:
            return file.number_of(sha)
        return file.number_by_backup(sha, made.packed_backup_id)

    def _known(
        self,
        tip: Tip,
        of_file: Callable[[IndexFile, int], dict[bytes, _Value]],
        of_history: Callable[[MergedHistory], dict[bytes, _Value]],
    ) -> tuple[dict[bytes, _Value], Iterator[Entry]]:
        """What the file says, or else the history up to the newest merge; and the commits above."""
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}, iter(())
        try:
            return self._in_file(raw_tip, of_file)
        except Unusable as error:
            self._note(error)
        missing, below = self._below(raw_tip, b"")
        merged = None if below is None else index_build.read_merged(self._git, below.hex())
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

    def _of_devices(
        self,
        tip: Tip,
        device_ids: Collection[str] | None,
        of_file: Callable[[IndexFile, Collection[bytes] | None, int], dict[bytes, _Value]],
    ) -> tuple[dict[bytes, _Value], Iterator[tuple[bytes, Version]]]:
        """What the file says of some devices, and their versions that it lacks, oldest first.

        Nothing at all if the file cannot tell.
        """
        raw_tip = raw_id(tip)
        if raw_tip is None:
            return {}, iter(())
        wanted = packed(device_ids)
        try:
            found, above = self._in_file(
                raw_tip, lambda file, newest: of_file(file, wanted, newest)
            )
        except Unusable as error:
            self._note(error)
            return {}, iter(())
        return found, (
            (device, entry.version)
            for entry in above
            for device in entry.changed
            if wanted is None or device in wanted
        )


def packed(device_ids: Collection[str] | None) -> set[bytes] | None:
    """The ids as the file has them; None, all devices, stays."""
    return None if device_ids is None else set(map(pack_uuid, device_ids))
