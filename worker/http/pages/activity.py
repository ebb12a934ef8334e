"""What happens: the newest events, and what waits."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, Final, Literal

import redis
from fastapi import Query, Request, Response

from confkeep.errors import ConfkeepError
from confkeep.queue.events import TYPES, Event
from worker.http.access import Caller
from worker.http.context import Here
from worker.http.pages.recent import Wanted, shown_of
from worker.http.pages.rendering import page, span
from worker.http.pages.routing import Viewer, new_router
from worker.observe import event_roles, states
from worker.observe.states import State
from worker.process.broker_check import find_problems
from worker.process.workers import list_workers
from worker.queue import backoff, dead_letters, inboxes
from worker.reading.reader import Reader

router = new_router()

_ROWS: Final = 200


def _names(caller: Caller) -> Any:
    def ask(reader: Reader) -> dict[str, str | None]:
        return {each.tenant_id: each.name for each in reader.tenants(caller.tenants)}

    return ask


@router.get("/activity")
async def activity(
    request: Request,
    caller: Viewer,
    context: Here,
    only: Literal["changes", ""] = "",
    tenant: str = Query("", max_length=36),
    seen: str = "",
) -> Response:
    """The newest events of the tenants that the caller sees; nothing, if the page shows the newest one already."""
    events: list[Event] = []
    trouble = None
    wanted = Wanted(caller.tenants, tenant, only_changes=bool(only))
    try:
        events = await context.ask(lambda client: context.recent.newest(client, wanted))
    except ConfkeepError as error:
        trouble = f"What happened is not known: {error}."
    newest_id = events[0].id if events else ""
    if trouble is None and seen and seen == newest_id:
        return Response(status_code=204)
    names = await context.read(_names(caller))
    shown = [_row(event, names) for event in events]
    return page(
        request,
        "activity.html",
        caller=caller,
        events=shown,
        only=only,
        tenant=tenant,
        trouble=trouble,
        newest=newest_id,
    )


def _row(event: Event, names: dict[str, str | None]) -> dict[str, Any]:
    data = event.data
    details = ""
    if event.type == "backup.committed":
        added, removed = data.get("lines_added", 0), data.get("lines_removed", 0)
        details = (
            f"{added} {'line' if added == 1 else 'lines'} added, {removed} removed"
            if data.get("export_changed")
            else states.UNCHANGED.word
            if data.get("unchanged")
            else "configuration unchanged"
        )
    elif data.get("reason"):
        details = str(data["reason"])
    elif data.get("message"):
        details = str(data["message"])
    return {
        **shown_of(event, names),
        "what": TYPES.get(event.type, event.type),
        "style": event_roles.ROLES.get(event.type, ""),
        "details": details,
    }


@router.get("/queue")
async def queue(request: Request, caller: Viewer, context: Here) -> Response:
    """What waits and why, who works, and the dead letters."""

    def ask(client: redis.Redis) -> dict[str, Any]:
        boxes = [box for box in inboxes.list_inboxes(client) if caller.sees(box.tenant_id)][:_ROWS]
        letters = [
            one for one in dead_letters.list_dead_letters(client) if caller.sees(one.tenant_id)
        ]
        everything = caller.tenants is None
        return {
            "problems": find_problems(client, ask_all=False) if everything else [],
            "workers": list_workers(client) if everything else None,
            "inboxes": boxes,
            "waits": backoff.get_many(client, [box.tenant_id for box in boxes]),
            "letters": letters[-_ROWS:],
        }

    found = await context.ask(ask)
    return page(
        request,
        "queue.html",
        caller=caller,
        now=dt.datetime.now(dt.UTC),
        names=await context.read(_names(caller)),
        state_of=_state_of,
        why=_why,
        **found,
    )


def _state_of(wait: backoff.Backoff | None) -> State:
    if wait is None:
        return states.WAITING
    return states.STALLED if wait.stalled else states.AFTER_FAULT


def _why(wait: backoff.Backoff | None) -> str:
    """Why it waits after a fault, and when it is tried again."""
    if wait is None:
        return ""
    next_s = wait.next_ms / 1000 - time.time()
    when = f"next try in {span(next_s)}" if next_s > 0 else "next try is due"
    return f", {when}: {wait.reason}"
