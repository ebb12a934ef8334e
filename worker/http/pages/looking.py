"""Searching the newest configurations."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from fastapi import Query, Request, Response

from confkeep.errors import InvalidInput, NotInStore, RepositoryDamaged
from worker.engine.search import Query as Wanted
from worker.engine.search import Searcher
from worker.http.context import SEARCH_S, Here
from worker.http.pages.rendering import page
from worker.http.pages.routing import Viewer, new_router
from worker.reading.answers import DeviceEntry, FoundEntry, TenantEntry
from worker.reading.directory_page import Filter
from worker.reading.reader import DAMAGED, Reader, search_all

router = new_router()

#: Devices that a page names because they are called so.
_NAMED: Final = 20
#: Devices that a page lists, and lines of each.
_DEVICES: Final = 100
_LINES: Final = 50
_CONTEXT: Final = 1


@router.get("/search")
async def search(
    request: Request,
    caller: Viewer,
    context: Here,
    q: str = Query("", max_length=1_000),
    tenant: str = Query("", max_length=253),
    regex: bool = False,
    case: str = "",
) -> Response:
    """Devices that are called so, and lines of the newest exports that match; of the masked ones for who may not
    see secrets."""
    wanted = Wanted(q, regex=regex, ignore_case=case == "0", context=_CONTEXT)
    problem = None
    if q:
        try:
            Searcher(wanted)
        except InvalidInput as error:
            problem = str(error)

    def ask(reader: Reader) -> dict[str, Any]:
        tenants = reader.tenants(caller.tenants)
        chosen = reader.tenant(tenant, caller.tenants).tenant_id if tenant else ""
        among = [each for each in tenants if chosen in ("", each.tenant_id)]
        if not q or problem is not None:
            among = []
        named = [] if regex or not q.strip() else _called(reader, among, q.strip())
        found, damaged = search_all(reader, among, wanted, _DEVICES + 1, reveal=caller.reveals)
        if chosen and damaged:
            raise damaged[0][1]
        return {
            "tenants": tenants,
            "chosen": chosen,
            "named": named,
            "named_cut": len(named) == _NAMED,
            "found": [_cut(one) for one in found[:_DEVICES]],
            "more": len(found) > _DEVICES,
            "damaged": [each for each, _ in damaged],
        }

    found = await context.read(ask, SEARCH_S, context.searchers)
    return page(
        request,
        "search.html",
        caller=caller,
        q=q,
        regex=regex,
        ignore_case=case == "0",
        problem=problem,
        problem_of_damaged=DAMAGED,
        **found,
    )


def _called(
    reader: Reader, tenants: list[TenantEntry], text: str
) -> list[tuple[TenantEntry, DeviceEntry]]:
    """The devices with that in their name, address or model; `search_all` tells of the tenants without an answer."""
    found: list[tuple[TenantEntry, DeviceEntry]] = []
    for each in tenants:
        if len(found) < _NAMED:
            with suppress(NotInStore, RepositoryDamaged):
                page = reader.page(each.tenant_id, Filter(text=text), None, _NAMED - len(found))
                found += ((each, device) for device in page.devices)
    return found


def _cut(found: FoundEntry) -> dict[str, Any]:
    return {
        **found.model_dump(exclude={"matches"}),
        "matches": found.matches[:_LINES],
        "left_out": max(0, len(found.matches) - _LINES),
    }
