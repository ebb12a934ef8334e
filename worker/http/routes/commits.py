"""The route of a tenant's commits, for programs that keep a copy in step."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from worker.http import paging
from worker.http.callers import Reads
from worker.http.context import Here
from worker.http.problems import RESPONSES
from worker.http.routes.directory import Limit
from worker.http.sending import json_of
from worker.reading.answers import CommitsPage

router = APIRouter(prefix="/v1", tags=["versions"], responses=RESPONSES)


@router.get("/tenants/{tenant}/commits", response_model=CommitsPage, responses=paging.DOCUMENTED)
async def commits(
    request: Request,
    tenant: str,
    caller: Reads,
    context: Here,
    since: Annotated[
        str | None, Query(description="The last commit that is known; without it, from the first.")
    ] = None,
    limit: Limit = paging.DEFAULT,
) -> Response:
    """All of a tenant's commits after one, oldest first; also unchanged backups and namings."""
    page = await context.read_of(
        caller, tenant, lambda reader, tenant_id: reader.commits(tenant_id, since, limit)
    )
    headers = {}
    if page.more and page.head is not None:
        headers = paging.link_to_next(request, {"since": page.head})
    return json_of(page, headers=headers)
