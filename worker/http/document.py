"""The OpenAPI document: what FastAPI tells of the routes, and the bodies that the routes read by themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from worker.http.routes.backups import ErasureBody, LabelsBody
from worker.http.uploads import JsonBackup

_REF = "#/components/schemas/{model}"


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
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(bodies["$defs"])
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
