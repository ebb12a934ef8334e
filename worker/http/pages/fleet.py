"""The first page, and a tenant's directory."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import redis
from fastapi import Query, Request, Response

from confkeep.errors import ConfkeepError, RepositoryDamaged
from confkeep.queue.events import Event
from confkeep.settings import Settings
from worker.http.access import Caller
from worker.http.context import Context, Here
from worker.http.pages.recent import Wanted, shown_of
from worker.http.pages.rendering import page
from worker.http.pages.routing import Viewer, new_router
from worker.queue import dead_letters, inboxes
from worker.reading.answers import DeviceEntry, TenantEntry, counts_of
from worker.reading.directory_page import Filter, changed_by
from worker.reading.reader import DAMAGED, Reader, devices_so_far

router = new_router()

#: No device was backed up before.
_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
_TENANTS: Final = 500
#: Last changes of configurations.
_CHANGES: Final = 20
_DEVICES: Final = 250
#: What they are sorted by, what they are called, and their classes in the style sheet.
_COLUMNS: Final = (
    ("name", "Device", ""),
    ("group", "Group", "medium"),
    ("address", "Address", "medium"),
    ("model", "Model", "wide"),
    ("changed", "Last change", ""),
    ("seen", "Last backup", ""),
    ("versions", "Versions", "number wide"),
)


@dataclass(frozen=True, slots=True)
class _Waits:
    """What waits and what died, of the tenants that the caller sees."""

    #: By tenant.
    waiting: Mapping[str, int]
    dead: Mapping[str, int]
    changes: list[Event]


@router.get("/")
async def fleet(request: Request, caller: Viewer, context: Here) -> Response:
    """All tenants, and the last changes of their configurations."""

    oldest = oldest_fresh(context.settings)

    def ask(reader: Reader) -> list[dict[str, Any]]:
        seen = reader.tenants(caller.tenants)[:_TENANTS]
        return [_counts(reader, each, oldest) for each in seen]

    tenants = await context.read(ask)
    names = {each["tenant_id"]: each["name"] for each in tenants}
    tenants.sort(key=lambda each: (each["name"] is None, str(each["name"]).casefold()))
    waits, trouble = await _waits(context, caller)
    changes = [] if waits is None else [_change(one, names) for one in waits.changes]
    return page(
        request, "fleet.html", caller=caller, tenants=tenants, queue=waits, trouble=trouble, changes=changes
    )  # fmt: skip


def _counts(reader: Reader, tenant: TenantEntry, oldest: dt.datetime) -> dict[str, Any]:
    problem = None
    try:
        devices = devices_so_far(reader, tenant.tenant_id)
    except RepositoryDamaged:
        devices, problem = (), DAMAGED
    stale = sum(is_stale(device, oldest) for device in devices)
    suspect = sum(device.suspect is not None for device in devices)
    return {
        **counts_of(tenant, devices).model_dump(),
        "problem": problem,
        "fresh": len(devices) - stale,
        "stale": stale,
        "suspect": suspect,
    }


def oldest_fresh(settings: Settings) -> dt.datetime:
    """Since when the newest backup of a device has to be for it not to be stale."""
    hours = settings.stale_hours
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours) if hours else _NEVER


def is_stale(device: DeviceEntry, oldest: dt.datetime) -> bool:
    """Whether the device had no backup since `oldest`."""
    return device.last_backup_at is None or device.last_backup_at < oldest


async def _waits(context: Context, caller: Caller) -> tuple[_Waits | None, str | None]:
    """What Redis knows; without it the pages still show what is in git."""

    def ask(client: redis.Redis) -> _Waits:
        return _Waits(
            {
                box.tenant_id: box.entries
                for box in inboxes.list_inboxes(client)
                if caller.sees(box.tenant_id)
            },
            Counter(
                one.tenant_id
                for one in dead_letters.list_dead_letters(client)
                if caller.sees(one.tenant_id)
            ),
            context.recent.newest(client, Wanted(caller.tenants, only_changes=True))[:_CHANGES],
        )

    try:
        return await context.ask(ask), None
    except ConfkeepError as error:
        return None, f"What waits is not known: {error}."


def _change(event: Event, names: dict[str, str | None]) -> dict[str, Any]:
    def number(name: str) -> int | None:
        value = event.data.get(name)
        return value if isinstance(value, int) else None

    counts = {name: number(name) for name in ("lines_added", "lines_removed")}
    return {**shown_of(event, names), **counts}


_Sort = Literal[
    "name", "-name", "group", "-group", "address", "-address", "model", "-model",
    "changed", "-changed", "seen", "-seen", "versions", "-versions",
]  # fmt: skip


@router.get("/tenants/{tenant}")
async def directory(
    request: Request,
    tenant: str,
    caller: Viewer,
    context: Here,
    q: str = Query("", max_length=253),
    group: str = Query("", max_length=253),
    stale: str = "",
    suspect: str = "",
    sort: _Sort = "name",
    number: int = Query(1, ge=1, le=100_000, alias="page"),
) -> Response:
    """A tenant's devices: filtered, sorted, a page at a time."""
    oldest = oldest_fresh(context.settings)
    wanted = Filter(
        group=group or None,
        seen_before=oldest if stale else None,
        suspect=bool(suspect),
        text=q.strip() or None,
    )

    def ask(reader: Reader) -> tuple[TenantEntry, list[DeviceEntry], list[str]]:
        found = reader.tenant(tenant, caller.tenants)
        devices = devices_so_far(reader, found.tenant_id)
        groups = sorted({device.group for device in devices if device.group})
        kept = [device for device in devices if wanted.lets_through(device)]
        return found, _sorted(kept, sort), groups

    found, devices, groups = await context.read(ask)
    first = (number - 1) * _DEVICES
    shown = [(device, is_stale(device, oldest)) for device in devices[first : first + _DEVICES]]
    return page(
        request,
        "tenant.html",
        caller=caller,
        tenant=found,
        devices=shown,
        groups=groups,
        columns=_COLUMNS,
        wanted={"q": q, "group": group, "stale": stale, "suspect": suspect, "sort": sort},
        total=len(devices),
        first=first + 1,
        before=number - 1 if number > 1 else None,
        after=number + 1 if first + _DEVICES < len(devices) else None,
    )


def _sorted(devices: list[DeviceEntry], by: str) -> list[DeviceEntry]:
    """The devices in that order; those without a value come last, whichever way it goes."""
    field = by.removeprefix("-")

    def value(device: DeviceEntry) -> Any:
        match field:
            case "changed":
                return changed_by(device)
            case "seen":
                return device.last_backup_at
            case "versions":
                return device.versions
        text = getattr(device, field)
        return None if text is None else str(text).casefold()

    having = [device for device in devices if value(device) is not None]
    having.sort(key=value, reverse=by.startswith("-"))
    return having + [device for device in devices if value(device) is None]
