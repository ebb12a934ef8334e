"""Refuses a query parameter that a route does not have: who mistypes one would take the answer for what was asked."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute

from confkeep.errors import InvalidInput
from confkeep.wording import printable

#: Most characters of an unknown name in the answer.
_MOST_NAME: Final = 40


def require_known(request: Request) -> None:
    """Refuse a query with a parameter that the route does not have.

    Raises:
        InvalidInput: names it, and those that the route has.
    """
    if not request.query_params:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = {parameter.alias for parameter in route.dependant.query_params}
    unknown = next((name for name in request.query_params if name not in known), None)
    if unknown is not None:
        there = f"known are {', '.join(sorted(known))}" if known else "there are none here"
        raise InvalidInput(printable(unknown[:_MOST_NAME]), f"is no parameter; {there}")
