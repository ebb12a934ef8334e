"""The application: its routes, what it opens when it starts, and how errors become problem documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from confkeep.errors import ConfkeepError, InvalidInput
from confkeep.settings import Settings
from worker.http.context import Context
from worker.http.document import document_of
from worker.http.guard import Guard
from worker.http.http_metrics import HttpMetrics
from worker.http.oxidized import ingest, node_lists, requests, texts
from worker.http.pages import activity, devices, differences, fleet, looking, signing_in
from worker.http.pages.rendering import FOLDER, problem_page
from worker.http.problems import problem_of, problem_of_status
from worker.http.routes import backups, commits, directory, events, operations, search, versions
from worker.http.sending import answer_of

#: Those of the Oxidized look-alike and of the ingest.
OXIDIZED = (node_lists.router, texts.router, requests.router, ingest.router)
#: The routers, in the order in which they are tried.
ROUTERS = (
    directory.router,
    versions.router,
    commits.router,
    search.router,
    backups.router,
    events.router,
    operations.router,
    *OXIDIZED,
)

#: Those of the pages.
PAGES = (
    signing_in.router,
    fleet.router,
    differences.router,
    devices.router,
    looking.router,
    activity.router,
)


def create_app(settings: Settings) -> FastAPI:
    """The application for these settings. It opens its clients when it starts, and closes them at its end."""

    metrics = HttpMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context = app.state.context = Context(settings, metrics)
        letting_go = asyncio.create_task(context.let_go())
        try:
            yield
        finally:
            letting_go.cancel()
            context.close()

    app = FastAPI(
        title="confkeep",
        version="1",
        description="Hand over backups of network devices, and read what is kept of them in git.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for router in (*ROUTERS, *PAGES):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.openapi = partial(document_of, app)  # type: ignore[method-assign]
    app.add_middleware(Guard, metrics=metrics)
    app.add_exception_handler(ConfkeepError, _tell_ours)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    app.add_exception_handler(HTTPException, _tell_status)
    return app


async def _tell_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ConfkeepError)
    return answer_of(problem_of(error))


async def _tell_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be a configuration.
    parts = [
        f"{'.'.join(map(str, each['loc'][1:])) or each['loc'][0]}: {each['msg']}"
        for each in error.errors()[:5]
    ]
    field, _, problem = "; ".join(parts).partition(": ")
    return answer_of(problem_of(InvalidInput(field, problem)))


async def _tell_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
        # A browser asked for it: somebody mistyped a page's address.
        return problem_page(
            request,
            404,
            "There is no such page.",
            "The address is mistyped, or of another release.",
        )
    return answer_of(problem_of_status(error.status_code, error.detail), dict(error.headers or {}))
