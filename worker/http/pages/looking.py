"""Searching the newest configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastapi import Query, Request, Response

from confkeep.errors import InvalidInput, NotInStore, RepositoryDamaged
from worker.engine.search import Query as Wanted
from worker.engine.search import Searcher
from worker.http.context import Here
from worker.http.pages.rendering import page
from worker.http.pages.routing import Viewer
from worker.http.pages.routing import router as new_router
from worker.reading.answers import DeviceEntry, FoundEntry, TenantEntry
from worker.reading.directory_page import Filter
from worker.reading.reader import DAMAGED, Reader

router = new_router()

#: Devices that a page names because they are called so.
_NAMED: Final = 20
#: Devices that a page lists, and lines of each.
_DEVICES: Final = 100
_LINES: Final = 50
_CONTEXT: Final = 1
_PATIENCE_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class _Answer:
    tenants: list[TenantEntry]
    #: The id of the only tenant to search; empty for all.
    chosen: str
    named: list[tuple[TenantEntry, DeviceEntry]]
    found: list[FoundEntry]
    #: Those of several tenants in which nothing could be searched.
    damaged: list[TenantEntry]


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
        damaged: list[TenantEntry] = []
        for each in tenants if q and problem is None else ():
            if chosen not in ("", each.tenant_id):
                continue
            try:
                if q.strip() and not regex and len(named) < _NAMED:
                    there = reader.page(each.tenant_id, called, None, _NAMED - len(named))
                    named += ((each, device) for device in there.devices)
                if len(found) <= _DEVICES:
                    left = _DEVICES + 1 - len(found)
                    found += reader.search(each.tenant_id, wanted, left, reveal=caller.reveals)
            except NotInStore:
                # Its first backup is not committed yet: nothing is found there.
                pass
            except RepositoryDamaged:
                if chosen:
                    raise
                damaged.append(each)
        return _Answer(tenants, chosen, named, found, damaged)

    answer = await context.search(ask, _PATIENCE_S)
    return page(
        request,
        "search.html",
        caller=caller,
        q=q,
        tenants=answer.tenants,
        chosen=answer.chosen,
        regex=regex,
        ignore_case=case == "0",
        problem=problem,
        named=answer.named,
        named_cut=len(answer.named) == _NAMED,
        found=[_cut(one) for one in answer.found[:_DEVICES]],
        more=len(answer.found) > _DEVICES,
        damaged=answer.damaged,
        problem_of_damaged=DAMAGED,
    )


def _cut(found: FoundEntry) -> dict[str, Any]:
    return {
        **found.model_dump(exclude={"matches"}),
        "matches": found.matches[:_LINES],
        "left_out": max(0, len(found.matches) - _LINES),
    }
