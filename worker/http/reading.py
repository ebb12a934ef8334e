"""Chooses the reader: of the store, where this process reaches it, or through the workers."""

from __future__ import annotations

import redis

from confkeep.settings import Settings
from worker.reading.asking import TaskReader
from worker.reading.reader import Reader, StoreReader


def reader_of(client: redis.Redis, settings: Settings) -> Reader:
    """The reader that the settings name."""
    if settings.http_store:
        return StoreReader(settings.git_store_path)
    return TaskReader(client, settings)
