"""Routes of tenants and their devices."""

from __future__ import annotations

from fastapi import APIRouter

from worker.engine.answers import DeviceEntry, TenantCounts
from worker.engine.reader import Reader
from worker.http.callers import SECURITY, Reads
from worker.http.context import Here
from worker.http.problems import RESPONSES

router = APIRouter(prefix="/v1", tags=["directory"], responses=RESPONSES, dependencies=SECURITY)


@router.get("/tenants")
async def tenants(caller: Reads, context: Here) -> list[TenantCounts]:
    """The tenants that the token may see, with their counts."""

    def ask(reader: Reader) -> list[TenantCounts]:
        return [reader.counts(each.tenant_id) for each in reader.tenants(caller.tenants)]

    return await context.read(ask)


@router.get("/tenants/{tenant}/devices/{device}")
async def device(tenant: str, device: str, caller: Reads, context: Here) -> DeviceEntry:
    """A device: its labels, its newest version and when it was last backed up."""

    def ask(reader: Reader) -> DeviceEntry:
        return reader.device(reader.tenant(tenant, caller.tenants).tenant_id, device)

    return await context.read(ask)
