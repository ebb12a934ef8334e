"""Routes by which a client wants a capture soon: the event `capture.requested` tells it to whoever polls."""

from __future__ import annotations

import secrets
from typing import Any, Final

import redis
from fastapi import APIRouter, Request, Response

from confkeep.queue import events
from worker.http.access import Caller
from worker.http.callers import OxidizedEnqueues
from worker.http.context import Context, Here
from worker.http.oxidized.answers import answer, unfound
from worker.http.oxidized.bodies import SMALL_BYTES, object_in, text_in
from worker.http.oxidized.nodes import find_nodes, without_json
from worker.http.uploads import read_json

#: Most characters of what a client says with its wish: a line of a device's log, as a rule.
_MOST_TEXT: Final = 1_000

router = APIRouter(include_in_schema=False)


@router.put("/node/next/{name:path}")
async def put_next(
    name: str, request: Request, caller: OxidizedEnqueues, context: Here
) -> Response:
    """A capture is wanted; the body may say by whom and why."""
    body = await read_json(request, SMALL_BYTES)
    return await _request(name, object_in(body) if body.strip() else {}, caller, context)


@router.get("/node/next/{name:path}")
async def get_next(name: str, caller: OxidizedEnqueues, context: Here) -> Response:
    """As `PUT`, for clients that only get."""
    return await _request(name, {}, caller, context)


async def _request(name: str, said: dict[str, Any], caller: Caller, context: Context) -> Response:
    name = without_json(name)
    user = text_in(said, "user", _MOST_TEXT)
    message = text_in(said, "msg", _MOST_TEXT) or text_in(said, "message", _MOST_TEXT)
    found = await context.read(lambda reader: find_nodes(reader, caller, name))
    if len(found) != 1:
        return unfound(name, found, as_json=True)
    node = found[0]
    event = events.new(
        events.REQUESTED,
        node.tenant.tenant_id,
        node.device.device_id,
        data={"device_name": node.name, "user": user, "message": message},
        about=[secrets.token_hex(16)],  # each wish is a new one
    )

    def emit(client: redis.Redis) -> None:
        events.emit(client, context.settings, event)

    await context.ask(emit)
    return answer("ok", as_json=True)
