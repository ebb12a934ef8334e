"""Searching the newest configurations."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from fastapi import Query, Request, Response

from confkeep.errors import InvalidInput, NotInStore
from worker.engine.search import Query as Wanted
from worker.engine.search import Searcher
from worker.http.context import Here
from worker.http.pages.rendering import page
from worker.http.pages.routing import Viewer
from worker.http.pages.routing import router as new_router
from worker.reading.answers import DeviceEntry, FoundEntry, TenantEntry
from worker.reading.directory_page import Filter
from worker.reading.reader import Reader

router = new_router()

_Answer = tuple[list[TenantEntry], str, list[tuple[TenantEntry, DeviceEntry]], list[FoundEntry]]

#: Devices that a page names because they are called so.
_NAMED: Final = 20
#: Devices that a page lists, and lines of each.
_DEVICES: Final = 100
_LINES: Final = 50
_CONTEXT: Final = 1
_PATIENCE_S: Final = 25.0


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

    def ask(reader: Reader) -> _Answer:
        tenants = reader.tenants(caller.tenants)
        chosen = reader.tenant(tenant, caller.tenants).tenant_id if tenant else ""
        called = Filter(text=q.strip())
        named: list[tuple[TenantEntry, DeviceEntry]] = []
        found: list[FoundEntry] = []
        for each in tenants if q and problem is None else ():
            if chosen not in ("", each.tenant_id):
                continue
            # As long as a tenant's first backup is not committed, nothing is found there.
            with suppress(NotInStore):
                if q.strip() and not regex and len(named) < _NAMED:
                    there = reader.page(each.tenant_id, called, None, _NAMED - len(named))
                    named += ((each, device) for device in there.devices)
                if len(found) <= _DEVICES:
                    left = _DEVICES + 1 - len(found)
                    found += reader.search(each.tenant_id, wanted, left, reveal=caller.reveals)
        return tenants, chosen, named, found

    tenants, chosen, named, found = await context.search(ask, _PATIENCE_S)
    return page(
        request,
        "search.html",
        caller=caller,
        q=q,
        tenants=tenants,
        chosen=chosen,
        regex=regex,
        ignore_case=case == "0",
        problem=problem,
        named=named,
        named_cut=len(named) == _NAMED,
        found=[_cut(one) for one in found[:_DEVICES]],
        more=len(found) > _DEVICES,
    )


def _cut(found: FoundEntry) -> dict[str, Any]:
    return {
        **found.model_dump(exclude={"matches"}),
        "matches": found.matches[:_LINES],
        "left_out": max(0, len(found.matches) - _LINES),
    }
