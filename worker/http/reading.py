"""Chooses the reader: of the store, where this process reaches it, or through the workers."""

from __future__ import annotations

from confkeep.settings import Settings
from worker.reading.reader import Reader, StoreReader


def reader_of(settings: Settings) -> Reader:
    """The reader that the settings name."""
    return StoreReader(settings.git_store_path)
