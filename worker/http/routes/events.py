"""The route of events: as pages, as pages that wait, and as a stream of server-sent events."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import anyio
import redis
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from confkeep.errors import ConfkeepError, InvalidInput, TooManyRequests
from confkeep.queue.events import TYPES
from confkeep.wording import utc_text
from worker.engine.events import Event, Page, cursor_from, read_events
from worker.engine.moments import seconds_of
from worker.http import paging
from worker.http.access import Caller
from worker.http.callers import Reads
from worker.http.context import Context, Here
from worker.http.problems import RESPONSES
from worker.reading.answers import Answer

router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)

#: Seconds that a page waits for its first event, and that a stream lasts; its client then comes again.
_LONG_POLL_S: Final = 25.0
_STREAM_S: Final = 300.0
#: Seconds between two looks, and after which a stream without an event sends a comment, so that proxies
#: keep it.
_LOOK_S: Final = 0.5
_COMMENT_S: Final = 15.0
#: Readers that wait at a time; each costs two looks at Redis a second.
_MOST_WAITING: Final = 100
_BATCH: Final = 100
#: Seconds that one look may take: git is asked where the stream has no more.
_READ_S: Final = 20.0


class EventEntry(Answer):
    """Something that happened; docs/events.md lists the types and what each says."""

    id: str
    type: str
    at: str
    tenant_id: str | None = None
    device_id: str | None = None
    data: dict[str, Any]
    #: Go on from here once this event is dealt with.
    cursor: str


class EventsPage(Answer):
    """Some events, in order."""

    events: list[EventEntry]
    #: Go on from here after all of them.
    cursor: str


@router.get(
    "/events",
    response_model=EventsPage,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events."}},
)
async def events(
    request: Request,
    caller: Reads,
    context: Here,
    since: Annotated[
        str | None,
        Query(
            description="A cursor, an age, or `now`; without it, from the beginning.",
            examples=["2h"],
        ),
    ] = None,
    types: Annotated[
        str | None,
        Query(description="Only these types, with commas.", examples=["backup.committed"]),
    ] = None,
    tenant: Annotated[str | None, Query(description="Only this tenant.")] = None,
    feed: Annotated[
        Literal["normal", "longpoll", "eventsource"],
        Query(
            description="`longpoll` waits for the first event, `eventsource` streams (text/event-stream)."
        ),
    ] = "normal",
    limit: Annotated[int, Query(ge=1, le=paging.MOST)] = paging.DEFAULT,
    last_event_id: Annotated[str | None, Header(description="What EventSource sends.")] = None,
) -> Response:
    """What happened, in each tenant's order. An event may come again, with the same id."""
    wanted = await _wanted(context, caller, last_event_id or since, types, tenant)
    if feed == "eventsource":
        _require_room(context)
        return StreamingResponse(
            _stream(request, context, wanted),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    page = await wanted.read(context, limit)
    if feed == "longpoll" and not page.events:
        _require_room(context)
        context.waiting += 1
        try:
            deadline = time.monotonic() + _LONG_POLL_S
            while not (page.events or context.ending) and time.monotonic() < deadline:
                if await request.is_disconnected():
                    break
                await anyio.sleep(_LOOK_S)
                page = await wanted.read(context, limit)
        finally:
            context.waiting -= 1
    answer = EventsPage(events=[_entry_of(event) for event in page.events], cursor=page.cursor)
    return Response(answer.model_dump_json(), media_type="application/json")


@dataclass
class _Wanted:
    """Which events a request wants, and where it has come to."""

    cursor: str | None
    tenants: frozenset[str] | None
    types: frozenset[str] | None

    async def read(self, context: Context, limit: int) -> Page:
        """The next events."""
        settings = context.settings
        store = settings.git_store_path if settings.http_store else None

        def ask(client: redis.Redis) -> Page:
            return read_events(
                client,
                settings,
                store,
                self.cursor,
                tenants=self.tenants,
                types=self.types,
                limit=limit,
            )

        page = await context.ask(ask, _READ_S)
        self.cursor = page.cursor
        return page


async def _wanted(
    context: Context, caller: Caller, since: str | None, types: str | None, tenant: str | None
) -> _Wanted:
    tenants = caller.tenants
    if tenant is not None:
        tenants = frozenset({await context.read_of(caller, tenant, lambda _, found: found)})
    kinds = None
    if types is not None:
        kinds = frozenset(word.strip() for word in types.split(","))
        if not kinds <= TYPES.keys():
            raise InvalidInput("types", f"must be some of {', '.join(sorted(TYPES))}")
    return _Wanted(await _cursor(context, since), tenants, kinds)


async def _cursor(context: Context, since: str | None) -> str | None:
    seconds = None if since is None else seconds_of(since)
    if since != "now" and seconds is None:
        return since
    try:
        moment = (
            None if seconds is None else dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
        )
    except OverflowError:
        return None
    return await context.ask(lambda client: cursor_from(client, moment))


def _require_room(context: Context) -> None:
    """Refuse one more reader that waits, where there are many.

    Raises:
        TooManyRequests: as many wait as may.
    """
    if context.waiting >= _MOST_WAITING:
        raise TooManyRequests(f"{_MOST_WAITING} readers of events wait already")


async def _stream(request: Request, context: Context, wanted: _Wanted) -> AsyncIterator[bytes]:
    """Server-sent events (WHATWG HTML, 9.2): each event's id is the cursor behind it."""
    context.waiting += 1
    try:
        ends = time.monotonic() + _STREAM_S
        said = time.monotonic()
        while time.monotonic() < ends and not context.ending:
            try:
                page = await wanted.read(context, _BATCH)
            except ConfkeepError as error:
                yield f": {type(error).__name__}\n\n".encode()
                return
            for event in page.events:
                data = json.dumps(_entry_of(event).model_dump(mode="json"))
                yield f"id: {event.cursor}\nevent: {event.type}\ndata: {data}\n\n".encode()
                said = time.monotonic()
            if page.events:
                continue
            if time.monotonic() - said > _COMMENT_S:
                yield b": nothing new\n\n"
                said = time.monotonic()
            if await request.is_disconnected():
                return
            await anyio.sleep(_LOOK_S)
    finally:
        context.waiting -= 1


def _entry_of(event: Event) -> EventEntry:
    return EventEntry(
        **event.model_dump(exclude={"at"}), at=utc_text(event.at), cursor=event.cursor
    )
