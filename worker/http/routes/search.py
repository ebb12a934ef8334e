"""The route that searches the newest exports for lines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from worker.engine.search import Query as Wanted
from worker.engine.search import Searcher
from worker.http.callers import Reads
from worker.http.context import SEARCH_S, Here
from worker.http.problems import RESPONSES
from worker.http.sending import json_of_all
from worker.reading.answers import FoundEntry
from worker.reading.reader import DAMAGED, Reader, search_all

router = APIRouter(prefix="/v1", tags=["search"], responses=RESPONSES)


@router.get("/search", response_model=list[FoundEntry])
async def search(
    caller: Reads,
    context: Here,
    q: Annotated[str, Query(min_length=1, max_length=1_000, description="What to look for.")],
    regex: Annotated[bool, Query(description="`q` is a regular expression of re2.")] = False,
    ignore_case: Annotated[bool, Query()] = False,
    tenant: Annotated[
        str | None, Query(description="Only this tenant; else all it may see.")
    ] = None,
    context_lines: Annotated[
        int, Query(alias="context", ge=0, le=20, description="Lines around each match.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Most devices.")] = 100,
) -> Response:
    """Lines of the devices' newest exports that match. Without `reveal`, the masked texts are searched.

    Of several tenants, one that is damaged has an entry without a device, whose `problem` says so.
    """
    wanted = Wanted(q, regex=regex, ignore_case=ignore_case, context=context_lines)
    Searcher(wanted)

    def ask(reader: Reader) -> list[FoundEntry]:
        if tenant is not None:
            tenant_id = reader.tenant(tenant, caller.tenants).tenant_id
            return reader.search(tenant_id, wanted, limit, reveal=caller.reveals)
        tenants = reader.tenants(caller.tenants)
        found, damaged = search_all(reader, tenants, wanted, limit, reveal=caller.reveals)
        return found + [
            FoundEntry(tenant_id=each.tenant_id, tenant_name=each.name, matches=[], problem=DAMAGED)
            for each, _ in damaged
        ]

    return json_of_all(FoundEntry, await context.read(ask, SEARCH_S, context.searchers))
