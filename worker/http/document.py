"""The OpenAPI document: what FastAPI tells of the routes, and the bodies that the routes read by themselves."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from worker.http.routes.backups import ErasureBody, LabelsBody
from worker.http.uploads import JsonBackup

_REF = "#/components/schemas/{model}"
#: The headers that take the token; `access.token_of` reads them. Dependencies that say so would run at each request.
_TOKENS: Final = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `confkeep token create`.",
    },
    "APIKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-Token",
        "description": "The same token.",
    },
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        _, bodies = models_json_schema(
            [(kind, "validation") for kind in (JsonBackup, LabelsBody, ErasureBody)],
            ref_template=_REF,
        )
        components = document.setdefault("components", {})
        components["securitySchemes"] = _TOKENS
        document["security"] = [{name: []} for name in _TOKENS]
        schemas = components.setdefault("schemas", {})
        schemas.update(bodies["$defs"])
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
