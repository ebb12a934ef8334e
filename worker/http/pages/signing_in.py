"""Signing in with a token, and out."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse

from confkeep.errors import AccessDenied
from worker.http.context import Context, Here
from worker.http.pages.rendering import page
from worker.http.pages.routing import COOKIE, local, new_router, require_own_form

router = new_router()

_PORT: Final = re.compile(r":\d+$")


@router.get("/sign-in")
async def form(request: Request, next: str = "/") -> Response:  # noqa: A002
    """The form."""
    return page(request, "sign_in.html", next=local(next), problem=None)


@router.get("/enter")
async def enter(request: Request, context: Here, token: str, next: str = "/") -> Response:  # noqa: A002
    """Sign in by an address that has the token in it, as `confkeep up` prints it. The address of the page that
    follows has none."""
    return await _sign_in(request, context, token, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    context: Here,
    token: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=2_000)] = "/",  # noqa: A002
) -> Response:
    """Sign in, and go to the page that was wanted."""
    require_own_form(request)
    return await _sign_in(request, context, token.strip(), next)


async def _sign_in(request: Request, context: Context, token: str, wanted: str) -> Response:
    try:
        await context.admit(token)
    except AccessDenied:
        return page(
            request,
            "sign_in.html",
            status=401,
            next=local(wanted),
            problem="This token is not valid: it was mistyped or revoked, or has expired.",
        )
    answer = RedirectResponse(local(wanted), 303)
    secure = _over_tls(request, context.settings.public_url)
    answer.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure, path="/")
    return answer


def _over_tls(request: Request, public_url: str) -> bool:
    """Whether the browser speaks TLS, with a proxy in front: forms say so, for links the setting does."""
    origin = request.headers.get("origin")
    if origin is not None:
        return origin.startswith("https://")
    public = urlsplit(public_url)
    # Of a port neither a cookie knows nor each proxy tells.
    here, there = (
        _PORT.sub("", each.lower()) for each in (request.headers.get("host", ""), public.netloc)
    )
    return public.scheme == "https" and here == there


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Sign out."""
    require_own_form(request)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer
