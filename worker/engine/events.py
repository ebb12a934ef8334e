"""The one reader of events: of the stream in Redis, and of git where that has no more."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import redis

from confkeep.event_reader import Git, read_page
from confkeep.event_reader import Page as Page
from confkeep.event_reader import cursor_from as cursor_from
from confkeep.queue.events import Event as Event
from confkeep.queue.events import emit as emit
from confkeep.settings import Settings
from worker.engine.commit_events import LocalGit


def read_events(
    client: redis.Redis,
    settings: Settings,
    store: Path | None,
    cursor: str | None,
    *,
    tenants: Collection[str] | None = None,
    types: Collection[str] | None = None,
    limit: int = 100,
    wait_s: float = 0.0,
) -> Page:
    """The next events after a cursor.

    Args:
        store: where the repositories are; None: ask the workers.
        cursor: as an event or a page had it, or `cursor_from`; None: from the beginning.
        tenants: ids of the only tenants to read; None: all.
        types: the only types to return; None: all.
        limit: most events.
        wait_s: seconds to wait for an event where there is none.

    Raises:
        InvalidInput: the cursor is none of ours.
        BrokerUnavailable: Redis did not answer.
        StoreMissing: git has to be asked, and the store is not there.
        NoReceipt: the workers have to be asked, and none answered.
    """
    git: Git
    if store is None:
        # Who reads the store need not wait for Celery's import.
        from confkeep.following import AskedGit

        git = AskedGit()
    else:
        git = LocalGit(store)
    return read_page(
        client, settings, git, cursor, tenants=tenants, types=types, limit=limit, wait_s=wait_s
    )
