"""Routes of tenants and their devices."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from confkeep.errors import InvalidInput
from worker.engine.moments import moment_of, seconds_of
from worker.http import paging
from worker.http.callers import Reads
from worker.http.context import Here
from worker.http.problems import RESPONSES
from worker.http.sending import json_of, json_of_all
from worker.reading.answers import DeviceEntry, TenantCounts
from worker.reading.directory_page import Filter, place_of
from worker.reading.reader import Reader, counts_or_problem

router = APIRouter(prefix="/v1", tags=["directory"], responses=RESPONSES)

Limit = Annotated[int, Query(ge=1, le=paging.MOST, description="Most entries of a page.")]
Cursor = Annotated[
    str | None, Query(description="Where the page begins: from the `Link` of the one before.")
]


@router.get("/tenants", response_model=list[TenantCounts], responses=paging.DOCUMENTED)
async def tenants(
    request: Request,
    caller: Reads,
    context: Here,
    limit: Limit = paging.DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The tenants that the token may see, with their counts, sorted by id."""
    after = "" if cursor is None else paging.decode(cursor, 1)[0]

    def ask(reader: Reader) -> tuple[list[TenantCounts], bool]:
        seen = [each for each in reader.tenants(caller.tenants) if each.tenant_id > after]
        return [counts_or_problem(reader, each) for each in seen[:limit]], len(seen) > limit

    found, more = await context.read(ask)
    headers = {}
    if more:
        headers = paging.link_to_next(request, {"cursor": paging.encode([found[-1].tenant_id])})
    return json_of_all(TenantCounts, found, headers)


@router.get("/tenants/{tenant}", response_model=TenantCounts)
async def tenant(tenant: str, caller: Reads, context: Here) -> Response:
    """A tenant with its counts."""
    return json_of(
        await context.read_of(caller, tenant, lambda reader, tenant_id: reader.counts(tenant_id))
    )


@router.get(
    "/tenants/{tenant}/devices", response_model=list[DeviceEntry], responses=paging.DOCUMENTED
)
async def devices(
    request: Request,
    tenant: str,
    caller: Reads,
    context: Here,
    group: Annotated[str | None, Query(description="Only devices of this group.")] = None,
    stale: Annotated[
        str | None,
        Query(description="Only devices whose newest backup is older.", examples=["26h", "2d"]),
    ] = None,
    changed_since: Annotated[
        str | None,
        Query(
            description="Only devices whose configuration changed since.",
            examples=["2026-10-03", "2d"],
        ),
    ] = None,
    q: Annotated[
        str | None,
        Query(max_length=253, description="A part of the name, the address or the model."),
    ] = None,
    limit: Limit = paging.DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The directory: a tenant's devices with their labels, sorted by name."""
    now = dt.datetime.now(dt.UTC)
    wanted = Filter(
        group=group,
        seen_before=None if stale is None else _before(now, stale),
        changed_since=(
            None
            if changed_since is None
            else moment_of("changed_since", changed_since, now, end_of_day=False)
        ),
        text=q or None,
    )
    after = None
    if cursor is not None:
        name, device_id = paging.decode(cursor, 2)
        after = (name, device_id)
    page = await context.read_of(
        caller, tenant, lambda reader, tenant_id: reader.page(tenant_id, wanted, after, limit)
    )
    headers = {}
    if page.more:
        place = place_of(page.devices[-1])
        headers = paging.link_to_next(request, {"cursor": paging.encode(place)})
    return json_of_all(DeviceEntry, page.devices, headers)


def _before(now: dt.datetime, age: str) -> dt.datetime:
    seconds = seconds_of(age)
    try:
        if seconds is not None:
            return now - dt.timedelta(seconds=seconds)
    except OverflowError:
        pass
    raise InvalidInput("stale", "must be a number with s, m, h, d or w behind it, such as 26h")


@router.get("/tenants/{tenant}/devices/{device}", response_model=DeviceEntry)
async def device(tenant: str, device: str, caller: Reads, context: Here) -> Response:
    """A device: its labels, its newest version and when it was last backed up."""
    return json_of(
        await context.read_of(
            caller, tenant, lambda reader, tenant_id: reader.device(tenant_id, device)
        )
    )
