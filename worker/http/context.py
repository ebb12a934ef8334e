"""What a running application has: its settings, its clients, its threads and its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

import anyio
import redis
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable, StoreUnavailable
from confkeep.settings import Settings
from worker.engine.reader import Reader
from worker.http.access import Door
from worker.http.reading import reader_of

#: Seconds for which a request waits for Redis or the store, in all: then the answer is 503.
PATIENCE_S: Final = 4.5
#: Seconds for one answer of Redis.
_REDIS_S: Final = 2.0
#: Threads that read the store. Two keep two cores busy, since libgit2 and zlib work without Python's lock;
#: the others are for reads that wait for a disk.
_READERS: Final = 8
#: Threads that ask Redis, or wait for it. One hanging server must not take those that read the store.
_ASKERS: Final = 16

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Context:
    """Belongs to one application, in one process."""

    settings: Settings
    client: redis.Redis
    door: Door
    reader: Reader
    readers: CapacityLimiter
    askers: CapacityLimiter

    async def read(
        self, ask: Callable[[Reader], _Answer], patience_s: float = PATIENCE_S
    ) -> _Answer:
        """Ask the reader in a thread.

        Raises:
            StoreUnavailable: the store does not answer in time; the thread is left to itself, and a place
                for others is free when it has ended.
            ConfkeepError: as the reader.
        """
        try:
            with anyio.fail_after(patience_s):
                return await to_thread.run_sync(
                    ask, self.reader, abandon_on_cancel=True, limiter=self.readers
                )
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer for {patience_s:g} s") from None

    async def ask(
        self, ask: Callable[[redis.Redis], _Answer], patience_s: float = PATIENCE_S
    ) -> _Answer:
        """Ask Redis in a thread.

        Raises:
            BrokerUnavailable: it does not answer in time.
            ConfkeepError: as the function.
        """
        try:
            with anyio.fail_after(patience_s):
                return await to_thread.run_sync(
                    ask, self.client, abandon_on_cancel=True, limiter=self.askers
                )
        except TimeoutError:
            raise BrokerUnavailable(f"Redis did not answer for {patience_s:g} s") from None


def make_context(settings: Settings) -> Context:
    """Open what an application needs; in its process, after fork."""
    client = open_client(settings, timeout_s=min(_REDIS_S, settings.redis_timeout_s))
    return Context(
        settings,
        client,
        Door(client, settings),
        reader_of(settings),
        CapacityLimiter(_READERS),
        CapacityLimiter(_ASKERS),
    )


def _context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


#: The application's context, as routes ask for it.
Here = Annotated[Context, Depends(_context_of)]
