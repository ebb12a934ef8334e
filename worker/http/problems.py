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
    RepositoryBusy,
    TenantLocked,
    TooLarge,
    TooManyRequests,
)

#: The page that explains each error.
ERRORS_PAGE: Final = "https://github.com/confkeep/confkeep/blob/main/docs/errors.md"
MEDIA_TYPE: Final = "application/problem+json"
#: Seconds after which to try again, where nothing better is known.
RETRY_AFTER_S: Final = 5

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
    (TenantLocked, HTTPStatus.SERVICE_UNAVAILABLE),
    (RepositoryBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (PoisonedBackup, HTTPStatus.UNPROCESSABLE_ENTITY),
)


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


def status_of(error: ConfkeepError) -> int:
    """The status of an answer that tells this error."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return int(status)
    return int(HTTPStatus.SERVICE_UNAVAILABLE)


def problem_of(error: ConfkeepError) -> Problem:
    """The document that tells an error of ours."""
    kind = type(error)
    return Problem(
        type=f"{ERRORS_PAGE}#{kind.__name__}",
        title=(kind.__doc__ or kind.__name__).split("\n", 1)[0],
        status=status_of(error),
        detail=str(error),
        hint=error.hint,
        retryable=kind.retryable,
    )


def problem_of_status(status: int, detail: str | None = None) -> Problem:
    """The document of an answer that no error of ours is behind, such as an unknown path."""
    title = HTTPStatus(status).phrase
    return Problem(type="about:blank", title=title, status=status, detail=detail or title)


def headers_of(status: int, retry_after_s: float | None = None) -> dict[str, str]:
    """The headers that belong to an answer with that status."""
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="confkeep", Basic realm="confkeep"'
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = str(max(1, round(retry_after_s or RETRY_AFTER_S)))
    return headers


#: What routes document beside their own answers.
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "model": Problem,
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in (
        (401, "No token, or none that is valid."),
        (403, "The token does not allow it."),
        (404, "There is no such thing, or the token may not see it."),
        (422, "Something in the request is wrong; `detail` names it."),
        (429, "The token's bound of requests or bytes in a minute is reached."),
        (503, "Redis, the store or the workers do not answer."),
    )
}
