"""The pydantic models of what producers hand over and get back."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import uuid
from typing import Annotated, Any, Final, Literal, Required, Self, TypedDict

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from confkeep.errors import InvalidBackup, InvalidId
from confkeep.ids import checked_uuid
from confkeep.labels import Labels, checked_label
from confkeep.wording import first_fault

_MIB: Final = 1024 * 1024
#: Most bytes of an export, encoded as UTF-8.
MAX_EXPORT_BYTES: Final = 16 * _MIB
#: Most bytes of a binary.
MAX_BINARY_BYTES: Final = 64 * _MIB
#: Most bytes of a message, encoded as UTF-8.
MAX_MESSAGE_BYTES: Final = 4 * 1024
#: Git's dates begin in 1970; a later one than 2100 comes from a broken clock.
EARLIEST_CAPTURE: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LATEST_CAPTURE: Final = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
_CAPTURE_FORMAT: Final = (
    "must be a moment with its offset from UTC in ISO 8601, such as 2026-09-30T10:00:00Z"
)


def _canonical_id(value: object) -> str:
    if not isinstance(value, str | uuid.UUID):
        raise ValueError("must be a UUID")  # noqa: TRY004 - pydantic reports ValueErrors only
    try:
        return checked_uuid("id", value)
    except InvalidId as error:
        raise ValueError(error.problem) from None


def _encoded(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("must be text that can be encoded as UTF-8") from None


def _export(value: object) -> bytes:
    """An export as bytes; text is encoded as UTF-8 with `surrogateescape`."""
    if isinstance(value, str):
        value = _encoded(value)
    if not isinstance(value, bytes | bytearray):
        raise ValueError("must be text")  # noqa: TRY004
    if len(value) > MAX_EXPORT_BYTES:
        raise ValueError(f"must be at most {MAX_EXPORT_BYTES:,} bytes (16 MiB), is {len(value):,}")
    if not value or value.isspace():
        raise ValueError("must not be blank")
    return bytes(value)


def _binary(value: object) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ValueError("must be bytes or None")  # noqa: TRY004
    data = bytes(value)
    if len(data) > MAX_BINARY_BYTES:
        raise ValueError(f"must be at most {MAX_BINARY_BYTES:,} bytes (64 MiB), is {len(data):,}")
    return data


def _message(value: str) -> str:
    size = len(_encoded(value))
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"must be at most {MAX_MESSAGE_BYTES:,} bytes (4 KiB), is {size:,}")
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _label(value: str | None) -> str | None:
    return None if value is None else checked_label(value)


def _is_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _capture_date(value: object, parse: ValidatorFunctionWrapHandler) -> dt.datetime:
    # pydantic takes the text "2026" for that many seconds since 1970.
    numeral = isinstance(value, str | bytes) and _is_number(value)
    try:
        when: dt.datetime | None = None if numeral else parse(value)
    except ValidationError:
        when = None
    if when is None:
        raise ValueError(_CAPTURE_FORMAT)
    if not EARLIEST_CAPTURE <= when <= LATEST_CAPTURE:
        raise ValueError("must lie between 1970 and 2100")
    return when


Identifier = Annotated[str, BeforeValidator(_canonical_id)]
#: None leaves a label as it is, an empty text takes it away.
Label = Annotated[str | None, AfterValidator(_label)]
CaptureDate = Annotated[AwareDatetime, WrapValidator(_capture_date)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def checked(cls, /, **values: Any) -> Self:
        """An instance of checked values.

        Raises:
            InvalidBackup: names the first field at fault and its limit, never its value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            field, problem = first_fault(error)
            raise InvalidBackup(field or "backup", problem) from None


class _Answer(_Model):
    @classmethod
    def of(cls, answer: Any) -> Self:
        """Parse a worker's answer; fields of later releases are ignored.

        Raises:
            ValueError: it is not such an answer.
        """
        if not isinstance(answer, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004 - as pydantic's errors
        return cls.model_validate(
            {name: answer[name] for name in cls.model_fields if name in answer}
        )


class _Given(_Model):
    """What a backup and a naming have in common."""

    tenant_id: Identifier
    device_id: Identifier
    #: The commit's message: at most 4 KiB.
    message: Annotated[str, AfterValidator(_message)] = Field(repr=False)
    #: The device's labels: at most 253 characters each, no control characters.
    device_name: Label = None
    device_address: Label = None
    device_model: Label = None
    device_group: Label = None

    @property
    def labels(self) -> Labels:
        """The labels that were given."""
        return Labels(self.device_name, self.device_address, self.device_model, self.device_group)


class BackupPayload(_Given):
    """One capture of one device, from a producer."""

    #: The RouterOS text export, as bytes: at most 16 MiB and not blank.
    export_text: Annotated[bytes, BeforeValidator(_export)] = Field(repr=False)
    #: The `.backup` file: at most 64 MiB; None when the capture has none.
    binary_backup: Annotated[bytes | None, BeforeValidator(_binary)] = Field(None, repr=False)
    #: The same id is committed once, ever.
    backup_id: Identifier = Field(default_factory=lambda: str(uuid.uuid4()))
    #: When the device was polled, with a time zone. Becomes the commit's author date.
    captured_at: CaptureDate | None = None


class NamingPayload(_Given):
    """A naming: the labels of a device from now on. It is no capture."""

    #: The same id is committed once, ever.
    backup_id: Identifier = Field(default_factory=lambda: str(uuid.uuid4()))


#: `high` goes before other tenants' backups; a tenant's own order stays.
Priority = Literal["normal", "high"]


class BackupFields(TypedDict, total=False):
    """The keys of a backup in `enqueue_backups`: the arguments of `enqueue_backup`."""

    tenant_id: Required[str | uuid.UUID]
    device_id: Required[str | uuid.UUID]
    export_text: Required[str | bytes]
    binary_backup: bytes | None
    message: Required[str]
    backup_id: str | uuid.UUID
    captured_at: dt.datetime | None
    device_name: str | None
    device_address: str | None
    device_model: str | None
    device_group: str | None


class StagedReference(_Model):
    """Bytes that a client staged itself, for `backups.receive`.

    In Redis under `confkeep:handoff:<tenant_id>:<id>`, or in the file `handoff/<tenant_id>/<id>`
    of the shared volume, as CONFKEEP_STAGING says. It holds only an id, so that it cannot point
    outside the tenant's own folder.
    """

    id: Identifier
    size_bytes: int = Field(ge=0, le=MAX_BINARY_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ReceivedBackup(_Given):
    """The keyword arguments of `backups.receive`: JSON, from any Celery client.

    The export is given in one of three ways, the binary in one of two or not at all.
    """

    export_text: str | None = Field(None, repr=False)
    export_base64: str | None = Field(None, repr=False)
    export_staged: StagedReference | None = None
    binary_base64: str | None = Field(None, repr=False)
    binary_staged: StagedReference | None = None
    backup_id: Identifier | None = None
    captured_at: CaptureDate | None = None
    #: From `confkeep.signed_receive`; required if CONFKEEP_SIGNING_KEY is set.
    signature: str | None = Field(None, repr=False, max_length=64)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        exports = (self.export_text, self.export_base64, self.export_staged)
        if sum(value is not None for value in exports) != 1:
            raise ValueError("give one of export_text, export_base64 and export_staged")
        if self.binary_base64 is not None and self.binary_staged is not None:
            raise ValueError("give one of binary_base64 and binary_staged, or none")
        return self


def decode_base64(field: str, text: str, limit_bytes: int) -> bytes:
    """Decode a base64 text.

    Raises:
        InvalidBackup: not base64, or more than `limit_bytes`.
    """
    if len(text) // 4 * 3 > limit_bytes + 3:
        raise InvalidBackup(field, f"must hold at most {limit_bytes:,} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidBackup(field, "must be base64") from None


class Receipt(_Answer):
    """What became of a backup. It exists only after the commit is durable."""

    backup_id: Identifier
    tenant_id: Identifier
    device_id: Identifier
    #: The commit's id, 40 hexadecimal digits.
    sha: str
    lines_added: int
    lines_removed: int
    #: Both files are byte-identical to the device's last ones.
    unchanged: bool
    #: The export differs in more than RouterOS's header line with the date.
    export_changed: bool
    #: The committer's date.
    committed_at: dt.datetime
    #: Why the capture looks bad or failed, such as an error message in place of an export; None if it
    #: looks good. It is committed all the same; `warnings` has the reason too.
    suspect: str | None = None
    #: The device's name: its label, or without one the name in the export; None if there is neither.
    device_name: str | None = None
    #: What a person should know about this backup, one sentence each.
    warnings: list[str] = Field(default_factory=list)


class Device(_Answer):
    """A device of a tenant's directory."""

    device_id: Identifier
    #: Its label, or without one the name in its newest export; None if there is neither.
    name: str | None
    #: The name in its newest export.
    own_name: str | None
    address: str | None
    model: str | None
    group: str | None
    #: The number of its versions.
    versions: int
    #: The commit of the newest version, and its committer's date.
    sha: str
    changed_at: dt.datetime
    #: When it was last backed up, changed or not; None if git does not tell.
    last_backup_at: dt.datetime | None


class HistoryEntry(_Answer):
    """One version of a device."""

    sha: str
    message: str
    #: The committer's date.
    committed_at: dt.datetime
    #: None if another program made the commit.
    backup_id: str | None
    #: Why the capture looks bad or failed; None if it looks good.
    suspect: str | None = None
