"""Routes of a node's texts: the newest one, its versions, one of them, and the difference of two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request, Response

from confkeep.errors import InvalidId, NotInStore, RemovedByRetention, RepositoryDamaged
from worker.engine.versions import Wanted
from worker.http.access import Caller
from worker.http.callers import OxidizedReads
from worker.http.context import Here
from worker.http.oxidized.answers import NO_DIFF, NO_VERSION, answer, patch, unfound, version_row
from worker.http.oxidized.node_lists import wants_json
from worker.http.oxidized.nodes import Node, find_nodes, without_json
from worker.reading.reader import Reader

#: A commit's id as clients send it; nothing else names a version here.
_OID: Final = re.compile(r"[0-9a-fA-F]{4,40}")
_EXPORT: Final = "export.rsc"

router = APIRouter(include_in_schema=False)


@router.get("/node/fetch/{name:path}")
async def fetch(name: str, request: Request, caller: OxidizedReads, context: Here) -> Response:
    """The newest text of a node."""
    name = without_json(name)
    as_json = wants_json(request)

    def ask(reader: Reader) -> Response:
        found = find_nodes(reader, caller, name)
        if len(found) != 1:
            return unfound(name, found, as_json=as_json)
        text = _text(reader, caller, found[0], "latest")
        if text is None:
            return answer(NO_VERSION, as_json=as_json, status=404)
        return answer(text, as_json=as_json)

    return await context.read(ask)


@router.get("/node/version")
@router.get("/node/version.json")
async def list_versions(request: Request, caller: OxidizedReads, context: Here) -> Response:
    """A node's versions, newest first: those of the same second stand in the order of their commits."""
    name = request.query_params.get("node_full", "")

    def ask(reader: Reader) -> Response:
        found = find_nodes(reader, caller, name)
        if len(found) != 1:
            return unfound(name, found, as_json=True)
        node = found[0]
        rows = reader.versions(node.tenant.tenant_id, node.device.device_id, Wanted())
        return answer([version_row(row, context.settings) for row in rows], as_json=True)

    return await context.read(ask)


@router.get("/node/version/view")
@router.get("/node/version/view.json")
async def view(request: Request, caller: OxidizedReads, context: Here) -> Response:
    """A node's text as of a commit."""
    as_json = wants_json(request)
    oid = request.query_params.get("oid", "")

    def ask(reader: Reader) -> Response:
        found = _version(reader, caller, request, oid, as_json=as_json)
        return found if isinstance(found, Response) else answer(found[1], as_json=as_json)

    return await context.read(ask)


@router.get("/node/version/diffs")
@router.get("/node/version/diffs.json")
async def diffs(request: Request, caller: OxidizedReads, context: Here) -> Response:
    """The difference of a node's text as of two commits: `oid`, and the older `oid2`."""
    as_json = wants_json(request)
    oid, oid2 = (request.query_params.get(key, "") for key in ("oid", "oid2"))

    def ask(reader: Reader) -> Response:
        found = _version(reader, caller, request, oid, as_json=as_json)
        if isinstance(found, Response):
            return found
        node, new = found
        if not oid2:
            return answer(NO_DIFF, as_json=as_json)
        old = _text(reader, caller, node, oid2)
        if old is None:
            return answer(NO_VERSION, as_json=as_json, status=404)
        difference = reader.diff(
            node.tenant.tenant_id, node.device.device_id, oid, oid2, reveal=caller.reveals
        )
        said = patch(node.full_name, old, new, difference.hunks) if difference.hunks else NO_DIFF
        return answer(said, as_json=as_json)

    return await context.read(ask)


def _version(
    reader: Reader, caller: Caller, request: Request, oid: str, *, as_json: bool
) -> tuple[Node, bytes] | Response:
    """The node that the query names with its text as of a commit; the answer where it has none."""
    name = without_json(request.query_params.get("node", ""))
    found = find_nodes(reader, caller, name, request.query_params.get("group"))
    if not found:
        return unfound(name, found, as_json=as_json)
    node = _with_version(reader, found, oid)
    text = None if node is None else _text(reader, caller, node, oid)
    if node is None or text is None:
        return answer(NO_VERSION, as_json=as_json, status=404)
    return node, text


def _with_version(reader: Reader, found: Sequence[Node], oid: str) -> Node | None:
    """The node of several of that name that has a version: LibreNMS names no group, and the commit tells."""
    if not _OID.fullmatch(oid):
        return None
    for node in found if len(found) > 1 else ():
        try:
            version = reader.version(node.tenant.tenant_id, node.device.device_id, oid)
        except (InvalidId, NotInStore, RemovedByRetention, RepositoryDamaged):
            continue
        if version.sha.startswith(oid.lower()):
            return node
    return found[0] if len(found) == 1 else None


def _text(reader: Reader, caller: Caller, node: Node, version: str) -> bytes | None:
    """A text as the caller may see it; None if there is no such version."""
    if version != "latest" and not _OID.fullmatch(version):
        return None
    try:
        return reader.file(
            node.tenant.tenant_id, node.device.device_id, version, _EXPORT, reveal=caller.reveals
        ).data
    except (InvalidId, NotInStore, RemovedByRetention):
        return None
