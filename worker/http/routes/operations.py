"""Routes for operators: the deployment's status, the process's health, and metrics."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import redis
from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from confkeep.broker.connections import broker_errors
from confkeep.errors import ConfkeepError, NotAllowed
from worker.figures.status_json import status_json
from worker.figures.status_state import read_status
from worker.http.access import Caller
from worker.http.callers import Reads
from worker.http.context import Context, Here
from worker.http.parameters import require_known
from worker.http.problems import RESPONSES, documented
from worker.http.sending import json_of
from worker.reading.answers import Answer
from worker.store.repository.tenant_repository import require_store

router = APIRouter(tags=["operations"])

_ANYTHING: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
#: Seconds for which an answer about health counts, since anybody may ask.
_HEALTH_S = 1.0
#: Seconds that a look at the whole deployment may take.
_STATUS_S = 10.0


class Health(Answer):
    """How the process is."""

    status: Literal["ok", "not ready"]
    #: What it cannot reach.
    reasons: tuple[str, ...] = ()


@router.get(
    "/v1/health",
    response_model=Health,
    responses={503: {"model": Health, "description": "It is not ready."}, **documented(422)},
    openapi_extra={"security": []},
)
async def health(
    request: Request,
    context: Here,
    probe: Annotated[
        Literal["live", "ready"],
        Query(description="`live`: it answers at all; `ready`: it reaches what it needs."),
    ] = "ready",
) -> Response:
    """Whether the process lives and is ready. Needs no token, and names no tenant."""
    require_known(request)
    if probe == "live":
        return json_of(Health(status="ok"))
    now = time.monotonic()
    if now - context.health_at > _HEALTH_S:
        context.health_at = now
        context.reasons = await _reasons(context)
    ready = not context.reasons
    return json_of(
        Health(status="ok" if ready else "not ready", reasons=tuple(context.reasons)),
        200 if ready else 503,
    )


async def _reasons(context: Context) -> list[str]:
    def ping(client: redis.Redis) -> None:
        with broker_errors():
            client.ping()

    found: list[str] = []
    try:
        await context.ask(ping)
    except ConfkeepError:
        found.append("Redis does not answer")
    if context.settings.http_store:
        try:
            await context.read(lambda _reader: require_store(context.settings.git_store_path))
        except (ConfkeepError, OSError):
            found.append("the store cannot be read")
    return found


@router.get("/v1/status", responses=RESPONSES)
async def status(caller: Reads, context: Here) -> Response:
    """What waits, who works and what failed, as `confkeep status --json`; only of the tenants that the token
    may see."""

    def ask(client: redis.Redis) -> dict[str, Any]:
        return status_json(context.settings, read_status(client, context.settings))

    found = await context.ask(ask, _STATUS_S)
    return Response(_ANYTHING.dump_json(_seen(caller, found)), media_type="application/json")


def _seen(caller: Caller, found: dict[str, Any]) -> dict[str, Any]:
    """The part of a status that the caller may see."""
    if caller.tenants is None:
        return found
    return {
        "tenants": [each for each in found["tenants"] if caller.sees(each)],
        "tenant_names": {
            each: name for each, name in found["tenant_names"].items() if caller.sees(each)
        },
        **{
            part: [each for each in found[part] if caller.sees(each["tenant_id"])]
            for part in ("inboxes", "dead_letters")
        },
    }


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Metrics.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **RESPONSES,
    },
)
async def metrics(caller: Reads, context: Here) -> Response:
    """Metrics of the whole deployment as `confkeep exporter` serves them, and of this process's requests.

    The token has to be one for all tenants.
    """
    if caller.tenants is not None:
        raise NotAllowed("metrics are of all tenants: the token is for some")
    text = await to_thread.run_sync(context.exposition.text, limiter=context.askers)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
