"""The application: its routes, what it opens when it starts, and how errors become problem documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from confkeep.errors import ConfkeepError
from confkeep.observe.logs import get_logger
from confkeep.settings import Settings
from worker.http import directory
from worker.http.context import make_context
from worker.http.problems import (
    ERRORS_PAGE,
    MEDIA_TYPE,
    Problem,
    headers_of,
    problem_of,
    problem_of_status,
)

log = get_logger("http")

#: The routers, in the order in which they are tried.
ROUTERS = (directory.router,)


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings. It opens its clients when it starts, and closes them at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.context = make_context(settings)
        try:
            yield
        finally:
            app.state.context.client.close()

    app = FastAPI(
        title="confkeep",
        version="1",
        description="Hand over backups of network devices, and read what is kept of them in git.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ConfkeepError, _tell_ours)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    app.add_exception_handler(HTTPException, _tell_status)
    app.add_exception_handler(Exception, _tell_unforeseen)
    return app


def answer_of(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem document as an answer."""
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True),
        problem.status,
        {**headers_of(problem.status), **(headers or {})},
        MEDIA_TYPE,
    )


async def _tell_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ConfkeepError)
    return answer_of(problem_of(error))


async def _tell_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be a configuration.
    parts: list[str] = []
    for each in error.errors()[:5]:
        where: tuple[Any, ...] = each.get("loc", ())
        parts.append(f"{'.'.join(map(str, where[1:])) or where[0]}: {each.get('msg', 'is wrong')}")
    problem = Problem(
        type=f"{ERRORS_PAGE}#InvalidInput",
        title="The caller's input is wrong.",
        status=422,
        detail="; ".join(parts),
    )
    return answer_of(problem)


async def _tell_status(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer_of(problem_of_status(error.status_code), dict(error.headers or {}))


async def _tell_unforeseen(_request: Request, error: Exception) -> JSONResponse:
    log.error(
        "a request failed in a way that nobody foresaw",
        action="http.unforeseen",
        error=type(error).__name__,
        exc_info=error,
    )
    return answer_of(problem_of_status(500))
