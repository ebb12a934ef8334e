"""What all pages share: the caller of a session, errors as pages, and a guard against other sites' forms."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from confkeep.errors import AccessDenied, ConfkeepError, NotAllowed
from worker.http.access import Caller, require
from worker.http.context import Here
from worker.http.pages.rendering import problem_page
from worker.http.parameters import require_known
from worker.http.problems import problem_of

#: Holds the token itself, so that revoking the token ends the session, and nothing has to be kept.
COOKIE: Final = "confkeep_token"


class PageRoute(APIRoute):
    """Answers errors with pages, and who is not signed in with the way there."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI calls."""
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError:
                detail = "One of its parameters has a value that it cannot have."
                return problem_page(request, 422, "This address is wrong.", detail)
            except ConfkeepError as error:
                # A part of a page that is loaded anew stays as it is; the next click leads to the form.
                if type(error) is AccessDenied and "hx-request" not in request.headers:
                    wanted = request.url.path
                    wanted += f"?{request.url.query}" if request.url.query else ""
                    return RedirectResponse(f"/sign-in?next={quote(wanted)}", 303)
                told = problem_of(error)
                return problem_page(request, told.status, told.title, told.detail, told.hint)

        return answered


def new_router() -> APIRouter:
    """A router for pages, which stand in no OpenAPI document."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


async def _caller(request: Request, context: Here) -> Caller:
    # Whom the proxy names is not somebody else by an old cookie, or by one that another site had them take.
    found = await context.admit(context.proxy.person_of(request) or request.cookies.get(COOKIE))
    request.state.token_id = found.token_id
    request.state.person = found.name if found.by_proxy else None
    require(found, "read")
    require_known(request)
    return found


#: Who looks at a page.
Viewer = Annotated[Caller, Depends(_caller)]


def require_own_form(request: Request) -> None:
    """Refuse a form that another site sent: every browser says where a form comes from.

    Raises:
        NotAllowed: it came from elsewhere, or nothing says where from.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if site == "same-origin" or (site is None and own):
        return
    raise NotAllowed("the form was sent by another site")


def local(path: Any) -> str:
    """A path of these pages; the first page for everything else that somebody put into a link."""
    text = str(path or "/")
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) else "/"
