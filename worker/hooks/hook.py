"""A hook: who is told of which events, and the secret that signs what is sent."""

from __future__ import annotations

import base64
import re
import secrets
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
)

from confkeep.errors import InvalidInput
from confkeep.models import Identifier
from confkeep.queue.events import COMMITTED, TYPES, Event
from confkeep.wording import first_fault

#: How a secret begins, by Standard Webhooks (https://www.standardwebhooks.com).
SECRET_PREFIX: Final = "whsec_"  # noqa: S105
#: Bytes of a secret, by the same source: 24 to 64.
_SECRET_BYTES: Final = range(24, 65)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes and underscores")
    return value


def _checked_url(value: str) -> str:
    # The address may hold a secret, so no message repeats it.
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be an address such as https://portal.example/hook") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be an address such as https://portal.example/hook")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name: what is sent is signed")
    if not value.isascii() or not value.isprintable() or " " in value or len(value) > 2_000:
        raise ValueError("must be at most 2,000 printable ASCII characters without spaces")
    return value


def _checked_type(value: str) -> str:
    if value not in TYPES:
        raise ValueError(f"must be one of {', '.join(sorted(TYPES))}")
    return value


def _checked_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        size = len(base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(SECRET_PREFIX) or size not in _SECRET_BYTES:
        raise ValueError(f"must be {SECRET_PREFIX} and 24 to 64 bytes in base64")
    return value


def new_secret() -> SecretStr:
    """A secret for a new hook."""
    return SecretStr(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii"))


class Hook(BaseModel):
    """Who is told of which events. Its `repr` shows neither address nor secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, AfterValidator(_checked_name)]
    url: Annotated[str, AfterValidator(_checked_url)] = Field(repr=False)
    secret: Annotated[SecretStr, AfterValidator(_checked_secret)] = Field(repr=False)
    #: Only events of these tenants; empty: of all, and those that belong to none.
    tenants: tuple[Identifier, ...] = ()
    #: Only these types; empty: all.
    types: tuple[Annotated[str, AfterValidator(_checked_type)], ...] = ()
    #: Of commits only those that changed a configuration.
    changed_only: bool = False
    #: A cursor: where it begins if how far it has come is lost; empty: with what happens from then on.
    start: str = Field("", repr=False)

    @classmethod
    def checked(cls, /, **values: Any) -> Self:
        """A hook of checked values.

        Raises:
            InvalidInput: names the first field at fault, never its value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            field, problem = first_fault(error)
            raise InvalidInput(field.partition(".")[0] or "hook", problem) from None

    @field_serializer("secret", when_used="json")
    def _as_kept(self, secret: SecretStr) -> str:
        return secret.get_secret_value()

    @property
    def shown_url(self) -> str:
        """The address without its query, which may hold a secret."""
        return self.url.partition("?")[0].partition("#")[0]

    def wants(self, event: Event) -> bool:
        """Whether it is told of an event."""
        if self.tenants and event.tenant_id not in self.tenants:
            return False
        if self.types and event.type not in self.types:
            return False
        unchanged = event.type == COMMITTED and not event.data.get("export_changed")
        return not (self.changed_only and unchanged)
