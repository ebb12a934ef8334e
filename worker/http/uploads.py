"""Reads a backup out of a request: a form with its two files, or JSON. Files that are large go to disk as they come."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar

from anyio import to_thread
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from confkeep.errors import InvalidBackup, StagingUnavailable, TooLarge
from confkeep.models import MAX_BINARY_BYTES, MAX_EXPORT_BYTES, decode_base64
from confkeep.wording import first_fault
from worker.http.access import token_of
from worker.http.context import context_of

_MIB: Final = 1024 * 1024
#: Bytes of a form beside its files.
_FORM_BYTES: Final = _MIB
MOST_FORM: Final = MAX_EXPORT_BYTES + MAX_BINARY_BYTES + _FORM_BYTES
#: JSON is whole in memory, as text and as what it says: larger backups come as a form.
MOST_JSON: Final = 24 * _MIB
_FILES: Final = {"export": MAX_EXPORT_BYTES, "binary": MAX_BINARY_BYTES}
_Body = TypeVar("_Body", bound=BaseModel)


class JsonBackup(BaseModel):
    """A backup as JSON; the export as text or as base64."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    export: str | None = Field(None, examples=["/system identity\nset name=core1\n"])
    export_base64: str | None = None
    binary_base64: str | None = None
    message: str | None = Field(None, examples=["nightly poll"])
    backup_id: str | None = None
    captured_at: str | None = Field(None, examples=["2026-10-03T02:00:00Z"])
    device_name: str | None = Field(None, examples=["core1"])
    device_address: str | None = None
    device_model: str | None = None
    device_group: str | None = None


#: What is said beside the two files.
FIELDS: Final = JsonBackup.model_fields.keys() - {"export", "export_base64", "binary_base64"}


async def read_backup(request: Request) -> dict[str, Any]:
    """The fields of `BackupPayload` that the body gives, not checked yet but for their sizes.

    Raises:
        TooLarge: the body, or a file in it, is larger than the limit; nothing more of it is read.
        InvalidBackup: the body is malformed.
        StagingUnavailable: a large file found no room on the disk.
        HTTPException: its media type is neither of the two.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _of_form(request)
    if kind == "application/json":
        return await _of_json(request)
    raise HTTPException(415, "send multipart/form-data or application/json")


def parsed(kind: type[_Body], data: bytes) -> _Body:
    """A body of JSON.

    Raises:
        InvalidBackup: names the field that is wrong.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        field, problem = first_fault(error)
        raise InvalidBackup(field[:100] or "body", problem[:200]) from None


async def read_json(request: Request, most: int = _MIB) -> bytes:
    """A body that is small.

    Raises:
        TooLarge: it is larger than `most` bytes.
    """
    # `getvalue` returns the buffer without a copy.
    gathered = io.BytesIO()
    async for part in _bounded(request, most):
        gathered.write(part)
    return gathered.getvalue()


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:19]) > most:
        raise _too_large("body", most)
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _too_large("body", most)
            yield part
    finally:
        if not announced:
            context_of(request).door.charge(token_of(request), size)


def _too_large(field: str, most: int) -> TooLarge:
    return TooLarge(field, f"must be at most {most:,} bytes ({most // _MIB} MiB)")


async def _of_json(request: Request) -> dict[str, Any]:
    body = await read_json(request, MOST_JSON)
    return await to_thread.run_sync(_parse_json, body)


def _parse_json(body: bytes) -> dict[str, Any]:
    given = parsed(JsonBackup, body)
    values: dict[str, Any] = {
        name: value for name in FIELDS if (value := getattr(given, name)) is not None
    }
    if (given.export is None) == (given.export_base64 is None):
        raise InvalidBackup("export", "must be given, or export_base64 in its place")
    if given.export is not None:
        values["export_text"] = given.export
    else:
        values["export_text"] = decode_base64(
            "export_base64", given.export_base64 or "", MAX_EXPORT_BYTES
        )
    if given.binary_base64 is not None:
        values["binary_backup"] = decode_base64(
            "binary_base64", given.binary_base64, MAX_BINARY_BYTES
        )
    return values


async def _of_form(request: Request) -> dict[str, Any]:
    parser = MultiPartParser(
        request.headers,
        _bounded(request, MOST_FORM),
        max_files=len(_FILES),
        max_fields=len(FIELDS) + 1,
        max_part_size=MAX_EXPORT_BYTES,
    )
    try:
        return await _of_parts(await parser.parse())
    except TooLarge:
        raise
    except MultiPartException as error:
        raise InvalidBackup("body", f"is no form: {error.message[:200]}") from None
    except LookupError:
        raise InvalidBackup("body", "is no form") from None
    except OSError as error:
        raise StagingUnavailable(
            f"temporary files: {os.strerror(error.errno or 0)}",
            hint="Free space on the server's disk for temporary files, which TMPDIR names; nothing was accepted.",
        ) from error
    finally:
        # Also the file of a part that the body breaks off in, which is in no form.
        for file in parser._files_to_close_on_error:  # noqa: SLF001
            file.close()


async def _of_parts(form: FormData) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in form.multi_items():
        target = {"export": "export_text", "binary": "binary_backup"}.get(name, name)
        if target in values:
            raise InvalidBackup(name, "is given twice")
        if name in _FILES:
            if isinstance(value, UploadFile):
                if (value.size or 0) > _FILES[name]:
                    raise _too_large(name, _FILES[name])
                values[target] = await value.read()
            elif name == "export":
                values[target] = value
            else:
                raise InvalidBackup(name, "must be a file")
        elif name in FIELDS and isinstance(value, str):
            values[name] = value
        else:
            raise InvalidBackup(name[:100], "is no field of a backup")
    if "export_text" not in values:
        raise InvalidBackup("export", "must be given")
    return values
