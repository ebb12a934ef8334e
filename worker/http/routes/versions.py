"""Routes of a device's versions: what each changed, its two files, and differences."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from worker.engine.moments import moment_of
from worker.engine.versions import Wanted
from worker.http import paging
from worker.http.access import Caller, require
from worker.http.callers import Reads
from worker.http.context import Context, Here
from worker.http.problems import RESPONSES, documented
from worker.http.routes.directory import Cursor, Limit
from worker.http.routes.files import documented_file, file_answer
from worker.http.sending import json_of, json_of_all
from worker.reading.answers import DiffAnswer, File, VersionEntry
from worker.reading.hunks_json import DiffJson, diff_json
from worker.reading.reader import Reader
from worker.reading.store_reader import PREVIOUS, FileName

router = APIRouter(
    prefix="/v1/tenants/{tenant}/devices/{device}/versions",
    tags=["versions"],
    responses=RESPONSES,
)

_GONE: Final = documented(410)
_At = Annotated[
    str | None,
    Query(
        description="In place of a version's id `at`: the version that was valid then.",
        examples=["2026-10-03T12:00Z"],
    ),
]


@router.get("", response_model=list[VersionEntry], responses=paging.DOCUMENTED)
async def versions(
    request: Request,
    tenant: str,
    device: str,
    caller: Reads,
    context: Here,
    changed: Annotated[
        Literal["config"] | None,
        Query(description="`config`: only those that differ in more than volatile lines."),
    ] = None,
    since: Annotated[
        str | None, Query(description="Only those captured since.", examples=["2026-10-03", "2d"])
    ] = None,
    before: Annotated[
        str | None, Query(description="Only those captured before.", examples=["2026-10-03"])
    ] = None,
    limit: Limit = paging.DEFAULT,
    cursor: Cursor = None,
) -> Response:
    """The device's versions, newest first, each with its line counts, its sizes and how long it was valid."""
    now = dt.datetime.now(dt.UTC)
    wanted = Wanted(
        limit=limit + 1,
        before=None if cursor is None else paging.decode(cursor, 1)[0],
        captured_before=(
            None if before is None else moment_of("before", before, now, end_of_day=False)
        ),
        captured_since=(
            None if since is None else moment_of("since", since, now, end_of_day=False)
        ),
        config_changes_only=changed is not None,
    )
    found = await context.read_of(
        caller, tenant, lambda reader, tenant_id: reader.versions(tenant_id, device, wanted)
    )
    headers = {}
    if len(found) > limit:
        found = found[:limit]
        headers = paging.link_to_next(request, {"cursor": paging.encode([found[-1].sha])})
    return json_of_all(VersionEntry, found, headers)


@router.get("/{version}", response_model=VersionEntry, responses=_GONE)
async def version(
    tenant: str, device: str, version: str, caller: Reads, context: Here, at: _At = None
) -> Response:
    """One version: by its id, its first digits, `latest`, `latest~2`, a moment, or `at` with `?at=`."""
    found = await context.read_of(
        caller,
        tenant,
        lambda reader, tenant_id: reader.version(tenant_id, device, named(version, at)),
    )
    return json_of(found)


def named(version: str, at: str | None) -> str:
    """What names the version: the part of the path, or the parameter `at` where the path says so."""
    return at if at is not None and version in ("at", "latest") else version


@router.get(
    "/{version}/export",
    response_class=Response,
    responses={**documented_file("text/plain"), **_GONE},
)
async def export(
    request: Request,
    tenant: str,
    device: str,
    version: str,
    caller: Reads,
    context: Here,
    at: _At = None,
) -> Response:
    """The version's export; with its secrets only if the token may `reveal`, else masked."""
    return await _file(request, context, caller, tenant, device, version, at, "export.rsc")


@router.get(
    "/{version}/binary",
    response_class=Response,
    responses={**documented_file("application/octet-stream"), **_GONE},
)
async def binary(
    request: Request,
    tenant: str,
    device: str,
    version: str,
    caller: Reads,
    context: Here,
    at: _At = None,
) -> Response:
    """The version's binary. It holds all secrets, so the token has to have the right `reveal`."""
    require(caller, "reveal")
    return await _file(request, context, caller, tenant, device, version, at, "backup.bin")


async def _file(
    request: Request,
    context: Context,
    caller: Caller,
    tenant: str,
    device: str,
    version: str,
    at: str | None,
    name: FileName,
) -> Response:
    def ask(reader: Reader, tenant_id: str) -> File:
        return reader.file(tenant_id, device, named(version, at), name, reveal=caller.reveals)

    found = await context.read_of(caller, tenant, ask)
    # A whole id names the same version for ever.
    fixed = len(version) == 40
    return file_answer(request, found, name, fixed=fixed, masked=not caller.reveals)


@router.get(
    "/{version}/diff",
    response_model=DiffJson,
    responses={
        200: {
            "description": "What changed, as `format` says.",
            "content": {"text/x-diff": {"schema": {"type": "string"}}},
        },
        **_GONE,
    },
)
async def diff(
    tenant: str,
    device: str,
    version: str,
    caller: Reads,
    context: Here,
    against: Annotated[
        str,
        Query(
            description="What to compare with: a version, `previous`, or `device:NAME` for another device's "
            "newest version.",
            examples=["previous", "latest~3", "device:core2"],
        ),
    ] = PREVIOUS,
    format: Annotated[Literal["unified", "json"], Query()] = "unified",  # noqa: A002
    at: _At = None,
) -> Response:
    """What changed in the export; masked unless the token may `reveal`. Each hunk names its section."""

    def ask(reader: Reader, tenant_id: str) -> DiffAnswer:
        return reader.diff(tenant_id, device, named(version, at), against, reveal=caller.reveals)

    found = await context.read_of(caller, tenant, ask)
    if format == "json":
        return json_of(diff_json(found))
    names = b""
    if found.hunks:
        old = f"a/export.rsc\t{found.old_sha}" if found.old_sha else "/dev/null"
        names = f"--- {old}\n+++ b/export.rsc\t{found.new_sha}\n".encode()
    return Response(names + found.hunks, media_type="text/x-diff; charset=utf-8")
