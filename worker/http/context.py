"""What a running application has: its settings, its clients, its threads and its reader."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final, TypeVar

import anyio
import redis
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable, ConfkeepError, StoreUnavailable
from confkeep.settings import Settings
from worker.http.access import Caller, Door
from worker.http.exposition import Exposition
from worker.http.http_metrics import HttpMetrics
from worker.http.pages.recent import Recent
from worker.http.proxy import Proxy
from worker.http.tokens import Person
from worker.reading.asking import TaskReader
from worker.reading.reader import Reader
from worker.reading.store_reader import StoreReader

#: Seconds for which a request waits for Redis or the store, in all: then the answer is 503.
PATIENCE_S: Final = 4.5
#: Seconds for one answer of Redis.
_REDIS_S: Final = 2.0
#: Threads that read the store: some read while others wait for a disk. More of them pass Python's lock to and
#: fro within their reads, so that each answer takes longer.
_READERS: Final = 4
#: Threads that ask Redis, or wait for it. One hanging server must not take those that read the store.
_ASKERS: Final = 16
#: Searches at a time, and the seconds that one may take: it reads every newest export, while other reads go on.
_SEARCHERS: Final = 2
SEARCH_S: Final = 25.0
#: Seconds for which the reader keeps open what it needs again at the next question.
KEPT_S: Final = 2.0
#: Hand-overs at a time, so that memory is bounded, and the seconds for one: the largest backup takes the server one,
#: and a disk may be slow.
_SENDERS: Final = 8
HAND_OVER_S: Final = 20.0

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class Context:
    """Belongs to one application, in one process."""

    def __init__(self, settings: Settings, metrics: HttpMetrics) -> None:
        """Open what the application needs; after fork."""
        self.settings = settings
        self.client = open_client(settings, timeout_s=min(_REDIS_S, settings.redis_timeout_s))
        self.door = Door(self.client, settings)
        self.proxy = Proxy.of(settings)
        self.reader: Reader = (
            StoreReader(settings.git_store_path)
            if settings.http_store
            else TaskReader(self.client, settings)
        )
        self.readers = CapacityLimiter(_READERS)
        self.askers = CapacityLimiter(_ASKERS)
        self.searchers = CapacityLimiter(_SEARCHERS)
        self.senders = CapacityLimiter(_SENDERS)
        self.exposition = Exposition(self.client, settings, metrics)
        self.recent = Recent()
        #: When health was looked up, and what was found.
        self.health_at = 0.0
        self.reasons: list[str] = []
        #: Readers of events that wait.
        self.waiting = 0
        #: The process ends: nobody should wait any longer.
        self.ending = False

    def close(self) -> None:
        """Hand over what was counted of the tokens, and close what is open."""
        with suppress(ConfkeepError):
            self.door.forget()
        self.exposition.close()
        self.reader.let_go()
        self.client.close()

    async def let_go(self) -> None:
        """Let the reader close what it keeps open, again and again."""
        while True:
            await anyio.sleep(KEPT_S)
            await to_thread.run_sync(self.reader.let_go, abandon_on_cancel=True)

    async def admit(self, given: str | Person | None, cost_bytes: int = 0) -> Caller:
        """As `Door.admit`, in a thread where that has to ask Redis."""
        if self.door.is_fresh(given):
            return self.door.admit(given, cost_bytes=cost_bytes)
        return await self.ask(lambda _client: self.door.admit(given, cost_bytes=cost_bytes))

    async def read(
        self,
        ask: Callable[[Reader], _Answer],
        patience_s: float | None = None,
        limiter: CapacityLimiter | None = None,
    ) -> _Answer:
        """Ask the reader in a thread.

        Args:
            limiter: bounds how many ask at a time; by default `readers`.

        Raises:
            StoreUnavailable: the store does not answer in time; the thread is left to itself, and a place
                for others is free when it has ended.
            ConfkeepError: as the reader.
        """
        patience_s = patience_s or PATIENCE_S
        try:
            return await _in_thread(ask, self.reader, patience_s, limiter or self.readers)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer for {patience_s:g} s") from None

    async def read_of(
        self, caller: Caller, tenant: str, ask: Callable[[Reader, str], _Answer]
    ) -> _Answer:
        """As `read`, of a tenant that the caller may see; `ask` gets its id.

        Args:
            tenant: as a person names it.
        """
        return await self.read(
            lambda reader: ask(reader, reader.tenant(tenant, caller.tenants).tenant_id)
        )

    async def ask(
        self,
        ask: Callable[[redis.Redis], _Answer],
        patience_s: float | None = None,
        limiter: CapacityLimiter | None = None,
    ) -> _Answer:
        """Ask Redis in a thread.

        Args:
            limiter: bounds how many ask at a time; by default `askers`.

        Raises:
            BrokerUnavailable: it does not answer in time. What was sent may be accepted all the same.
            ConfkeepError: as the function.
        """
        patience_s = patience_s or PATIENCE_S
        try:
            return await _in_thread(ask, self.client, patience_s, limiter or self.askers)
        except TimeoutError:
            raise BrokerUnavailable(f"Redis did not answer for {patience_s:g} s") from None


async def _in_thread(
    ask: Callable[[_Asked], _Answer], asked: _Asked, patience_s: float, limiter: CapacityLimiter
) -> _Answer:
    with anyio.fail_after(patience_s):
        return await to_thread.run_sync(ask, asked, abandon_on_cancel=True, limiter=limiter)


def context_of(request: Request) -> Context:
    """The context of the application that got the request."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


# Asynchronous, for FastAPI runs other functions in a thread, at every request.
async def _context_of(request: Request) -> Context:
    return context_of(request)


#: The application's context, as routes ask for it.
Here = Annotated[Context, Depends(_context_of)]
