"""Follow what happens: each commit, and what else a portal or a person wants to hear of, as events."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import redis

from confkeep import reading
from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, NoReceipt, NotPermitted
from confkeep.event_reader import Commits, Page, has_reached, read_page
from confkeep.ids import checked_uuid
from confkeep.queue import event_stream
from confkeep.queue.cursor import Place
from confkeep.queue.events import Event
from confkeep.settings import Settings, get_settings

#: Most events read in one go.
_AT_ONCE: Final = 200
#: Seconds that a follower waits for an event before it looks again, and after an outage.
_WAIT_S: Final = 5.0
_PAUSE_S: Final = 1.0


class AskedGit:
    """Answers from the workers' read tasks (`confkeep.event_reader.Git`)."""

    def __init__(self, timeout_s: float = reading.TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def tenants(self) -> list[str]:
        """The ids of all tenants that have a repository.

        Raises:
            NoReceipt: the worker of a shard did not answer in time.
        """
        found: set[str] = set()
        for shard in range(get_settings().shards):
            queue = keys.high_queue(shard)
            found.update(reading.ask("backups.tenants", queue, shard, timeout=self._timeout_s))
        return sorted(found)

    def after(
        self, tenant_id: str, seen: str | None, since_s: int, upto: str | None, limit: int
    ) -> Commits | None:
        """A tenant's commits after one, as `confkeep.event_reader.Git` says."""
        shards = get_settings().shards
        queue = keys.queue_of(checked_uuid("tenant_id", tenant_id), shards, high=True)
        answer = reading.ask(
            "backups.commits_after",
            queue,
            tenant_id,
            seen,
            since_s,
            upto,
            limit,
            timeout=self._timeout_s,
        )
        if answer is None:
            return None
        return Commits(
            [
                (sha, at_s, None if event is None else Event.model_validate(event))
                for sha, at_s, event in answer["found"]
            ],
            done=answer["done"],
        )


def events(
    cursor: str | None = None,
    *,
    tenants: Collection[str | uuid.UUID] | None = None,
    types: Collection[str] | None = None,
    follow: bool = True,
) -> Events:
    """The events after a cursor, in order: to go through with `for`, or in asyncio with `async for`.

    Each is delivered at least once, whatever is killed meanwhile: keep `event.cursor` with what you made of
    the event, and go on from there. A repeated one has the same id.

    Args:
        cursor: None: from the beginning, with every commit that is kept.
        tenants: the only tenants to read; None: all.
        types: the only types (docs/events.md); None: all.
        follow: wait for more at the end, also while Redis or the workers are away; else end with what there is
            at the first look.

    Raises, while it is gone through:
        InvalidInput: the cursor is none of confkeep's, or a tenant is no UUID.
        NotPermitted: this user of Redis may not read events.
        BrokerUnavailable, NoReceipt: without `follow`: Redis, or a worker that has to be asked, did not answer.
    """
    names = None if tenants is None else {checked_uuid("tenants", one) for one in tenants}
    return Events(cursor, names, None if types is None else frozenset(types), follow)


@dataclass(eq=False, repr=False)
class Events:
    """Events to go through, once."""

    _cursor: str | None
    _tenants: Collection[str] | None
    _types: Collection[str] | None
    _follow: bool
    #: Where the stream ended at the first look; None: nobody has looked, or it is followed.
    _end: Place | None = None

    def __iter__(self) -> Iterator[Event]:
        while True:
            page = self._page()
            yield from page.events
            if self._is_last(page):
                return

    async def __aiter__(self) -> AsyncIterator[Event]:
        # A thread of its own: the loop's executor is the program's.
        with ThreadPoolExecutor(1, "confkeep-events") as thread:
            while True:
                page = await asyncio.get_running_loop().run_in_executor(thread, self._page)
                for event in page.events:
                    yield event
                if self._is_last(page):
                    return

    def _is_last(self, page: Page) -> bool:
        if self._follow:
            return False
        # Where much happens there would always be one event more.
        has_all = self._end is not None and has_reached(page.cursor, self._end)
        return has_all or not page.events

    def _wants(self, event: Event) -> bool:
        return (self._tenants is None or event.tenant_id in self._tenants) and (
            self._types is None or event.type in self._types
        )

    def _page(self) -> Page:
        settings = get_settings()
        while True:
            try:
                page = self._read(get_client(settings), settings)
            except NotPermitted:
                raise
            except (BrokerUnavailable, NoReceipt):
                if not self._follow:
                    raise
                time.sleep(_PAUSE_S)
            else:
                self._cursor = page.cursor
                return page

    def _read(self, client: redis.Redis, settings: Settings) -> Page:
        if self._end is None and not self._follow:
            self._end = event_stream.now_place(client)
        return read_page(
            client,
            settings,
            AskedGit(),
            self._cursor,
            tenants=self._tenants,
            types=self._types,
            limit=_AT_ONCE,
            wait_s=_WAIT_S if self._follow else 0.0,
        )
