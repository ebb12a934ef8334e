"""Differences of two versions of a device, and of two devices."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from confkeep.errors import InvalidId, NotInStore
from worker.engine.versions import Wanted
from worker.http.access import Caller
from worker.http.context import Here
from worker.http.pages.changes import Hunk, counts_of, hunks_of
from worker.http.pages.rendering import page
from worker.http.pages.routing import Viewer, new_router
from worker.reading.answers import DeviceEntry, DiffAnswer, TenantEntry, VersionEntry
from worker.reading.directory_page import Filter
from worker.reading.reader import Reader
from worker.reading.store_reader import OF_DEVICE, PREVIOUS, DiffHow
from worker.store.repository.backup import decode_text

router = new_router()

#: Lines of a difference that a page shows.
LINES: Final = 20_000
#: Devices to choose from for a comparison.
_OTHERS: Final = 250
#: As much context as any export has lines.
_ALL: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class _Found:
    tenant: TenantEntry
    device: DeviceEntry
    new: VersionEntry
    old: VersionEntry | None
    #: The device that it is compared with, where that is another one.
    other: DeviceEntry | None
    diff: DiffAnswer
    #: The last version before it that changed the configuration, where it is compared with the one before.
    change_before: VersionEntry | None


@router.get("/tenants/{tenant}/devices/{device}/versions/{version}/diff")
async def diff(
    request: Request,
    tenant: str,
    device: str,
    version: str,
    caller: Viewer,
    context: Here,
    against: str = Query(PREVIOUS, max_length=300),
    layout: Literal["unified", "split"] = Query("unified", alias="view"),
    join: bool = False,
    header: bool = False,
    around: Literal["3", "25", "all"] = Query("3", alias="context"),
) -> Response:
    """What a version changed, or how it differs from another one."""
    how = DiffHow(_ALL if around == "all" else int(around), join, header)

    def ask(reader: Reader) -> _Found:
        found = reader.tenant(tenant, caller.tenants)
        return _look(reader, caller, found, device, version, against, how)

    found = await context.read(ask)
    hunks = hunks_of(decode_text(found.diff.hunks))
    added, removed = counts_of(hunks)
    shown, cut = _cut(hunks)
    # The time line counts a version's lines with its header.
    counts_less = (added, removed) != (found.new.lines_added, found.new.lines_removed)
    base = f"/tenants/{found.tenant.tenant_id}/devices/{found.device.device_id}"
    name = found.device.name or found.device.device_id
    old_text = "before: nothing" if found.old is None else _of(found.old)
    if found.other is not None:
        heading = f"{found.other.name or found.other.device_id} and {name}"
        old_text = f"{found.other.name or found.other.device_id}, newest version"
    elif against == PREVIOUS:
        heading = f"What changed on {name}"
    else:
        heading = f"{name}, two versions"
    return page(
        request,
        "diff.html",
        caller=caller,
        heading=heading,
        steps=[
            ("Fleet", "/"),
            (
                found.tenant.name or found.tenant.tenant_id,
                f"/tenants/{found.tenant.tenant_id}",
            ),
            (name, base),
            ("Difference", None),
        ],
        old_text=old_text,
        new_text=_of(found.new),
        message=found.new.message if against == PREVIOUS else "",
        suspect=found.new.suspect,
        added=added,
        removed=removed,
        without_header=counts_less and against == PREVIOUS and not header and not join,
        layout=layout,
        join=join,
        header=header,
        around=around,
        hunks=shown,
        cut=cut,
        shown_lines=LINES,
        header_only=not hunks and found.old is not None and found.new.lines_added > 0,
        change_before=None
        if found.change_before is None
        else f"{base}/versions/{found.change_before.sha}/diff",
        configuration=f"{base}/versions/{found.new.sha}",
        raw=f"/v1{base}/versions/{found.new.sha}/diff?against={against}",
        binaries=_binaries(found),
    )


@router.get("/tenants/{tenant}/compare")
async def compare(
    request: Request,
    tenant: str,
    caller: Viewer,
    context: Here,
    a: str = Query(max_length=253),
    b: str = Query("", max_length=253),
    q: str = Query("", max_length=253),
) -> Response:
    """Go to the difference of two devices' newest versions; a list to choose from where `b` names none."""
    wanted = (q or b).strip()

    def ask(
        reader: Reader,
    ) -> tuple[TenantEntry, DeviceEntry, DeviceEntry | None, list[DeviceEntry]]:
        found = reader.tenant(tenant, caller.tenants)
        one = reader.device(found.tenant_id, a)
        if b.strip():
            with suppress(InvalidId):
                return found, one, reader.device(found.tenant_id, wanted), []
        filtered = Filter(text=wanted or None)
        others = [
            each
            for each in reader.directory(found.tenant_id)
            if each.device_id != one.device_id and filtered.lets_through(each)
        ]
        return found, one, None, sorted(others, key=lambda each: farness(one, each))

    found, one, other, others = await context.read(ask)
    if other is not None:
        base = f"/tenants/{found.tenant_id}/devices/{one.device_id}/versions/latest/diff"
        return RedirectResponse(f"{base}?against={OF_DEVICE}{other.device_id}", 303)
    return page(
        request,
        "compare.html",
        caller=caller,
        tenant=found,
        device=one,
        devices=others[:_OTHERS],
        total=len(others),
        wanted=wanted,
    )


def farness(one: DeviceEntry, other: DeviceEntry) -> tuple[bool, bool]:
    """Sorts first what is most alike: of one group and model, then of one group, then of one model."""
    return (
        one.group is None or other.group != one.group,
        one.model is None or other.model != one.model,
    )


def _look(
    reader: Reader,
    caller: Caller,
    tenant: TenantEntry,
    device: str,
    version: str,
    against: str,
    how: DiffHow,
) -> _Found:
    one = reader.device(tenant.tenant_id, device)
    ids = tenant.tenant_id, one.device_id
    new = reader.version(*ids, version)
    diff = reader.diff(*ids, new.sha, against, reveal=caller.reveals, how=how)
    other = old = before = None
    if against.startswith(OF_DEVICE):
        other = reader.device(tenant.tenant_id, against.removeprefix(OF_DEVICE))
    elif diff.old_sha:
        with suppress(NotInStore):
            old = reader.version(*ids, diff.old_sha)
    if against == PREVIOUS and old is not None:
        wanted = Wanted(limit=1, before=new.sha, config_changes_only=True)
        before = next(iter(reader.versions(*ids, wanted)), None)
    return _Found(tenant, one, new, old, other, diff, before)


def _of(version: VersionEntry) -> str:
    return f"{version.captured_at:%Y-%m-%d %H:%M:%S} ({version.sha[:10]})"


def _binaries(found: _Found) -> str:
    if found.new.binary_bytes is None or found.other is not None:
        return ""
    if found.old is None or found.old.binary_bytes is None:
        return f"The binary backup came with it: {found.new.binary_bytes:,} bytes."
    return f"The binary backup has {found.new.binary_bytes:,} bytes, before {found.old.binary_bytes:,}."


def _cut(hunks: list[Hunk]) -> tuple[list[Hunk], bool]:
    """As many hunks as a page shows."""
    left = LINES
    kept: list[Hunk] = []
    for hunk in hunks:
        if left <= 0:
            return kept, True
        if len(hunk.lines) > left:
            del hunk.lines[left:]
            return [*kept, hunk], True
        left -= len(hunk.lines)
        kept.append(hunk)
    return kept, False
