"""Keeps repositories open for the next question: opening one costs more than most answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.store.repository.tenant_repository import TenantRepository, open_repository

#: Repositories that are kept open, in all. Each holds the packs that were read in it.
_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class _Kept:
    repository: TenantRepository
    #: The folder that was opened: another one may have its name by now.
    folder: tuple[int, int]


class Opened:
    """Repositories that are open and in nobody's use. Thread-safe: each has one user at a time."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        #: How many times all were closed: what was opened before is not kept.
        self._closed = 0
        self._lock = threading.Lock()

    @contextmanager
    def open(self, path: Path) -> Iterator[TenantRepository]:
        """An open repository, for the block.

        Raises:
            StoreError: as `open_repository`.
        """
        with self._lock:
            closed, found = self._closed, self._take(path)
        # Before it is opened: what takes its place meanwhile is another one.
        folder = _folder(path)
        if found is not None and found.folder != folder:
            found.repository.close()
            found = None
        if found is None:
            found = _Kept(open_repository(path), folder)
        sound = False
        try:
            yield found.repository
            sound = True
        finally:
            # After an error it is not kept: the reason may lie in it.
            with self._lock:
                keep = sound and closed == self._closed and len(self._kept) < _MOST
                if keep:
                    self._kept.append(found)
            if not keep:
                found.repository.close()

    def close(self) -> None:
        """Close what is open now, also what is in use as soon as it is not: packs that a repack has replaced
        take room on the disk until then."""
        with self._lock:
            self._closed += 1
            kept, self._kept = self._kept, []
        for each in kept:
            each.repository.close()

    def _take(self, path: Path) -> _Kept | None:
        for place in reversed(range(len(self._kept))):
            if self._kept[place].repository.path == path:
                return self._kept.pop(place)
        return None


def _folder(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        # Opening it tells why.
        return 0, 0
    return found.st_dev, found.st_ino
