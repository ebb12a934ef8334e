"""Problem documents (RFC 9457) from the one tree of errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field

from confkeep.errors import (
    AccessDenied,
    BackupIdConflict,
    BackupsWaiting,
    ConfkeepError,
    InvalidId,
    InvalidInput,
    NotAllowed,
    NotInStore,
    PoisonedBackup,
    RemovedByRetention,
    TooLarge,
    TooManyRequests,
)

#: The page that explains each error.
ERRORS_PAGE: Final = "https://github.com/confkeep/confkeep/blob/main/docs/errors.md"
MEDIA_TYPE: Final = "application/problem+json"
#: Seconds after which to try again.
RETRY_AFTER_S: Final = "5"

#: The first class that an error is of gives its status; what is in no class is 503: a part that HTTP needs
#: failed, and the caller did nothing wrong.
_STATUSES: Final[tuple[tuple[type[ConfkeepError], HTTPStatus], ...]] = (
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (AccessDenied, HTTPStatus.UNAUTHORIZED),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BackupIdConflict, HTTPStatus.CONFLICT),
    (InvalidId, HTTPStatus.NOT_FOUND),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RemovedByRetention, HTTPStatus.GONE),
    (NotInStore, HTTPStatus.NOT_FOUND),
    (BackupsWaiting, HTTPStatus.CONFLICT),
    (PoisonedBackup, HTTPStatus.UNPROCESSABLE_ENTITY),
)


_OF_ROUTES: Final = "/openapi.json has each route with its methods."
#: What a caller can do about a status that no error of ours is behind.
_HINTS: Final = {404: _OF_ROUTES, 405: _OF_ROUTES}


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(examples=[f"{ERRORS_PAGE}#NotInStore"])
    title: str = Field(examples=["No such repository, commit, device or file."])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no device is called core9"])
    #: What the caller can do about it.
    hint: str | None = None
    #: Whether the same request may succeed later.
    retryable: bool = False


def problem_of(error: ConfkeepError) -> Problem:
    """The document that tells an error of ours."""
    kind = type(error)
    statuses = (status for each, status in _STATUSES if issubclass(kind, each))
    return Problem(
        type=f"{ERRORS_PAGE}#{kind.__name__}",
        title=(kind.__doc__ or kind.__name__).split("\n", 1)[0],
        status=next(statuses, HTTPStatus.SERVICE_UNAVAILABLE),
        detail=str(error),
        hint=error.hint,
        retryable=kind.retryable,
    )


def problem_of_status(status: int, detail: str | None = None) -> Problem:
    """The document of an answer that no error of ours is behind, such as an unknown path."""
    title = HTTPStatus(status).phrase
    return Problem(
        type="about:blank",
        title=title,
        status=status,
        detail=detail or title,
        hint=_HINTS.get(status),
    )


def headers_of(status: int) -> dict[str, str]:
    """The headers that belong to an answer with that status."""
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="confkeep", Basic realm="confkeep"'
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = RETRY_AFTER_S
    return headers


#: A header of an answer, as the document says it.
Header = dict[str, Any]


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """What a route that reads its body by itself documents of it: JSON of that schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def header(description: str, *, always: bool = True) -> Header:
    """A header whose value is text."""
    return {"description": description, "required": always, "schema": {"type": "string"}}


_RETRY: Final = {"Retry-After": header("Seconds after which to try again.")}
_DOCUMENTED: Final[dict[int, tuple[str, dict[str, Header]]]] = {
    401: (
        "No token, or none that is valid.",
        {"WWW-Authenticate": header("How a token is sent.")},
    ),
    403: ("The token does not allow it.", {}),
    404: ("There is no such thing, or the token may not see it.", {}),
    408: ("The body came too slowly.", {}),
    409: ("The id was used before for other bytes, or backups of the device wait.", {}),
    410: ("Retention or an erasure removed it.", {}),
    413: ("The body is larger than the limit.", {}),
    415: ("The body is of another media type than those above.", {}),
    422: ("Something in the request is wrong; `detail` names it.", {}),
    429: ("The token's bound of requests or bytes in a minute is reached.", _RETRY),
    503: ("Redis, the store or the workers do not answer.", _RETRY),
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What routes document of the problems that they answer with."""
    return {
        status: {
            "model": Problem,
            "description": description,
            "headers": headers,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, (description, headers) in _DOCUMENTED.items()
        if status in statuses
    }


#: Those of all routes that want a token.
RESPONSES: Final = documented(401, 403, 404, 422, 429, 503)
#: Those of routes that read a body.
OF_BODIES: Final = documented(408, 413)
