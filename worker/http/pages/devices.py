"""A device's time line, one version of its export, and its files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final, Literal, TypeVar
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from worker.engine.versions import Wanted
from worker.http import paging
from worker.http.access import Caller, require
from worker.http.context import Context, Here
from worker.http.pages.fleet import is_stale, oldest_fresh
from worker.http.pages.rendering import day, link, page
from worker.http.pages.routing import Viewer, new_router
from worker.http.pages.rows import Dated, export_rows
from worker.http.routes.files import file_answer
from worker.reading.answers import DeviceEntry, File, Since, TenantEntry, VersionEntry
from worker.reading.reader import Reader
from worker.reading.store_reader import FileName
from worker.store.repository.backup import decode_text

router = new_router()

_VERSIONS: Final = 100
#: Lines of an export that a page shows.
LINES: Final = 20_000
_WEEK_DAYS: Final = 7

_Answer = TypeVar("_Answer")

_DEVICE: Final = "/tenants/{tenant}/devices/{device}"


@router.get(_DEVICE)
async def device(
    request: Request,
    tenant: str,
    device: str,
    caller: Viewer,
    context: Here,
    changed: Literal["config", "any"] = "config",
    cursor: str | None = None,
) -> Response:
    """The device's versions as a time line, newest first: those that changed its configuration, or all."""
    wanted = Wanted(
        limit=_VERSIONS + 1,
        before=None if cursor is None else paging.decode(cursor, 1)[0],
        config_changes_only=changed == "config",
    )
    found, one, versions = await _of(
        context, caller, tenant, device, lambda reader, ids: reader.versions(*ids, wanted)
    )
    older = None
    if len(versions) > _VERSIONS:
        versions = versions[:_VERSIONS]
        older = link(request, cursor=paging.encode([versions[-1].sha]))
    months = groupby(versions, key=lambda each: each.captured_at.strftime("%B %Y"))
    return page(
        request,
        "device.html",
        caller=caller,
        tenant=found,
        device=one,
        stale=is_stale(one, oldest_fresh(context.settings)),
        months=[(month, list(some)) for month, some in months],
        only_config=changed == "config",
        newest=None if cursor is None else link(request, cursor=None),
        older=older,
    )


@router.get(_DEVICE + "/at")
async def as_of(
    tenant: str, device: str, caller: Viewer, context: Here, at: str = Query("latest", max_length=100)
) -> Response:  # fmt: skip
    """Go to the version that was valid at a moment."""
    found, one, version = await _of(
        context, caller, tenant, device, lambda reader, ids: reader.version(*ids, at or "latest")
    )
    return RedirectResponse(
        f"/tenants/{found.tenant_id}/devices/{one.device_id}/versions/{version.sha}", 303
    )


@router.get(_DEVICE + "/change")
async def last_change(tenant: str, device: str, caller: Viewer, context: Here) -> Response:
    """Go to the last change of the configuration, past the backups since that found only another date."""
    wanted = Wanted(limit=1, config_changes_only=True)
    found, one, versions = await _of(
        context, caller, tenant, device, lambda reader, ids: reader.versions(*ids, wanted)
    )
    sha = versions[0].sha if versions else one.sha
    return RedirectResponse(
        f"/tenants/{found.tenant_id}/devices/{one.device_id}/versions/{sha}/diff", 303
    )


@router.get(_DEVICE + "/diff")
async def between(
    tenant: str,
    device: str,
    _caller: Viewer,
    older: str = Query("previous", max_length=100, alias="from"),
    newer: str = Query("latest", max_length=100, alias="to"),
) -> Response:
    """Go to the difference of the two versions that were chosen."""
    there = f"/tenants/{quote(tenant)}/devices/{quote(device)}/versions/{quote(newer)}/diff"
    return RedirectResponse(f"{there}?against={quote(older)}", 303)


@router.get(_DEVICE + "/versions/{version}")
async def version(
    request: Request,
    tenant: str,
    device: str,
    version: str,
    caller: Viewer,
    context: Here,
    since: bool = False,
) -> Response:
    """One version's export, each line with its number."""

    def ask(
        reader: Reader, ids: tuple[str, str]
    ) -> tuple[VersionEntry, File | None, list[Since] | None]:
        entry = reader.version(*ids, version)
        if entry.export_bytes is None:
            return entry, None, None
        file = reader.file(*ids, entry.sha, "export.rsc", reveal=caller.reveals)
        return entry, file, reader.since(*ids, entry.sha) if since else None

    found, one, (entry, file, dates) = await _of(context, caller, tenant, device, ask)
    rows: Markup | None = None
    cut = False
    if file is not None:
        texts = decode_text(file.data).removesuffix("\n").split("\n")
        cut = len(texts) > LINES
        rows = export_rows(
            (text.removesuffix("\r") for text in texts[:LINES]),
            None if dates is None else _dated(dates, len(texts), entry),
        )
    return page(
        request,
        "version.html",
        caller=caller,
        tenant=found,
        device=one,
        version=entry,
        rows=rows,
        shown_lines=LINES,
        cut=cut,
        since=since,
    )


def _dated(found: list[Since], lines: int, version: VersionEntry) -> list[Dated]:
    """How a page tells the dates of a version's lines."""
    by_sha = {each.sha: each for each in found}
    made = {sha: _as_shown(each, version) for sha, each in by_sha.items()}
    # A text that ends without a line has one more than git counts.
    last = _as_shown(Since(sha=version.sha, captured_at=version.captured_at), version)
    return [*(made[each.sha] for each in found), *[last] * (lines - len(found))]


def _as_shown(since: Since, version: VersionEntry) -> Dated:
    days = (version.captured_at - since.captured_at).days
    age = "day" if days < 1 else "week" if days < _WEEK_DAYS else ""
    return Dated(since.sha, day(since.captured_at), age)


@router.get(_DEVICE + "/versions/{version}/{name}")
async def file(
    request: Request,
    tenant: str,
    device: str,
    version: str,
    name: FileName,
    caller: Viewer,
    context: Here,
) -> Response:
    """A file to keep; an export is masked for who may not see secrets, and the binary is not given."""
    if name == "backup.bin":
        require(caller, "reveal")

    def ask(reader: Reader, tenant_id: str) -> File:
        return reader.file(tenant_id, device, version, name, reveal=caller.reveals)

    found = await context.read_of(caller, tenant, ask)
    return file_answer(request, found, name, fixed=False, masked=not caller.reveals)


async def _of(
    context: Context,
    caller: Caller,
    tenant: str,
    device: str,
    ask: Callable[[Reader, tuple[str, str]], _Answer],
) -> tuple[TenantEntry, DeviceEntry, _Answer]:
    """A tenant, its device, and what `ask` finds by the ids of both."""

    def find(reader: Reader) -> tuple[TenantEntry, DeviceEntry, _Answer]:
        found = reader.tenant(tenant, caller.tenants)
        one = reader.device(found.tenant_id, device)
        return found, one, ask(reader, (found.tenant_id, one.device_id))

    return await context.read(find)
