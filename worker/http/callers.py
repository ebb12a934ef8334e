"""The caller of a request, as routes ask for it: with the right that they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from worker.http.access import Caller, require, token_of
from worker.http.context import context_of
from worker.http.parameters import require_known
from worker.http.tokens import Right


def needs(right: Right, *, any_parameters: bool = False) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller, if its token is valid and has the right.

    Args:
        any_parameters: whether a query may have parameters that the route does not have. Nobody without a token
            learns those that it has.
    """

    async def caller(request: Request) -> Caller:
        context = context_of(request)
        length = request.headers.get("content-length", "")
        cost = int(length) if length.isdecimal() and len(length) < 19 else 0
        found = await context.admit(token_of(request), cost)
        request.state.token_id = found.token_id
        require(found, right)
        if not any_parameters:
            require_known(request)
        return found

    return caller


Reads = Annotated[Caller, Depends(needs("read"))]
Enqueues = Annotated[Caller, Depends(needs("enqueue"))]
Administers = Annotated[Caller, Depends(needs("admin"))]
#: Of the Oxidized look-alike, which leaves parameters that it does not know alone, as Oxidized does.
OxidizedReads = Annotated[Caller, Depends(needs("read", any_parameters=True))]
OxidizedEnqueues = Annotated[Caller, Depends(needs("enqueue", any_parameters=True))]
