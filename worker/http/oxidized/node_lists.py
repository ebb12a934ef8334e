"""Routes that list nodes: all, those of a group or model, one, and those in whose text a pattern is found."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from confkeep.errors import InvalidInput
from worker.engine.search import Query
from worker.http.callers import OxidizedReads
from worker.http.context import Here
from worker.http.oxidized.answers import answer, unfound
from worker.http.oxidized.bodies import form_field
from worker.http.oxidized.nodes import Node, find_nodes, nodes_of, without_json
from worker.reading.reader import Reader, search_all

#: The form's field of a search.
_PATTERN: Final = "search_in_conf_textbox"
#: Seconds for which a search may take. LibreNMS waits for 90.
_SEARCH_S: Final = 60.0
#: Most nodes that a search finds.
_MOST_FOUND: Final = 100_000

router = APIRouter(include_in_schema=False)


@router.get("/nodes")
@router.get("/nodes.json")
async def list_nodes(caller: OxidizedReads, context: Here) -> Response:
    """All nodes."""

    def ask(reader: Reader) -> Response:
        return answer([node.listed() for node in nodes_of(reader, caller)], as_json=True)

    return await context.read(ask)


@router.get("/nodes/stats")
@router.get("/nodes/stats.json")
async def stats(caller: OxidizedReads, context: Here) -> Response:
    """How many versions each node has."""

    def ask(reader: Reader) -> Response:
        nodes = nodes_of(reader, caller)
        found = {node.name: {"counter": {"success": node.device.versions}} for node in nodes}
        return answer(found, as_json=True)

    return await context.read(ask)


@router.get("/nodes/{field}/{value:path}")
async def list_some(
    field: str, value: str, request: Request, caller: OxidizedReads, context: Here
) -> Response:
    """The nodes of a group or of a model."""
    value = without_json(value)
    if field not in ("group", "model"):
        as_json = wants_json(request)
        return answer("nodes are listed by group or model", as_json=as_json, status=404)

    def ask(reader: Reader) -> Response:
        listed = [node.listed() for node in nodes_of(reader, caller)]
        return answer([each for each in listed if each[field] == value], as_json=True)

    return await context.read(ask)


@router.post("/nodes/conf_search")
@router.post("/nodes/conf_search.json")
async def search_texts(request: Request, caller: OxidizedReads, context: Here) -> Response:
    """The nodes in whose newest text a line matches a regular expression, in linear time."""
    pattern = await form_field(request, _PATTERN)
    if not pattern:
        return answer(f"{_PATTERN} is needed", as_json=True, status=400)
    query = Query(pattern, regex=True)

    def ask(reader: Reader) -> list[dict[str, str]]:
        nodes: dict[tuple[str, str | None], Node] = {
            (node.tenant.tenant_id, node.device.device_id): node
            for node in nodes_of(reader, caller)
        }
        tenants = {node.tenant.tenant_id: node.tenant for node in nodes.values()}.values()
        found, damaged = search_all(reader, tenants, query, _MOST_FOUND, reveal=caller.reveals)
        if damaged and not found:
            raise damaged[0][1]
        hits = (nodes.get((one.tenant_id, one.device_id)) for one in found)
        return [{"node": node.name, "full_name": node.full_name} for node in hits if node]

    try:
        return answer(await context.read(ask, _SEARCH_S, context.searchers), as_json=True)
    except InvalidInput as error:
        return answer(error.problem, as_json=True, status=400)


@router.get("/node/show/{name:path}")
async def show(name: str, caller: OxidizedReads, context: Here) -> Response:
    """One node, found as `find_nodes` says."""
    name = without_json(name)
    found = await context.read(lambda reader: find_nodes(reader, caller, name))
    if len(found) != 1:
        return unfound(name, found, as_json=True)
    shown: dict[str, Any] = found[0].shown()
    return answer(shown, as_json=True)


@router.get("/reload")
@router.get("/reload.json")
async def reload(request: Request, caller: OxidizedReads) -> Response:  # noqa: ARG001
    """Nothing has to be loaded again: the directory is always the newest one."""
    node = request.query_params.get("node")
    as_json = wants_json(request)
    return answer(f"reloaded {node[:253] if node else 'list of nodes'}", as_json=as_json)


def wants_json(request: Request) -> bool:
    """Whether the path or the query asks for JSON."""
    # Of what a `%3F` stands for, `request.url` would take the rest for a query.
    path: str = request.scope["path"]
    return path.endswith(".json") or request.query_params.get("format") == "json"
