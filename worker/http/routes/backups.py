"""Routes that hand backups and names over, tell what became of them, and erase a device."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final, Literal

import anyio
import redis
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from confkeep import awaiting, enqueue
from confkeep.errors import (
    BrokerUnavailable,
    ConfkeepError,
    InvalidBackup,
    InvalidId,
    NoReceipt,
    PoisonedBackup,
    StoreMissing,
    UnknownBackup,
)
from confkeep.ids import checked_uuid
from confkeep.models import BackupPayload, NamingPayload, Priority, Receipt
from confkeep.naming import naming_of
from worker.engine.forget import Erased, forget_device
from worker.engine.receipt import Answer as Known
from worker.engine.receipt import in_redis, next_step
from worker.http import uploads
from worker.http.access import Caller
from worker.http.callers import Administers, Enqueues, Reads
from worker.http.context import HAND_OVER_S, Context, Here
from worker.http.problems import OF_BODIES, RESPONSES, documented, header, json_body
from worker.http.sending import json_of
from worker.reading.answers import Answer
from worker.reading.reader import Reader

router = APIRouter(prefix="/v1", tags=["backups"], responses=RESPONSES)

#: Most seconds to wait for a receipt.
_MOST_WAIT_S: Final = 60
#: Seconds until an erasure that goes on is answered.
_ERASURE_S: Final = 25.0
#: Seconds that an erasure waits for backups of the device that are not committed yet.
_ERASURE_WAIT_S: Final = 10.0

_STATES: Final = {
    "PENDING": "waiting",
    "RETRY": "retrying",
    "FAILURE": "dead",
    "SUCCESS": "committed",
}


class BackupState(Answer):
    """What became of a backup, or of a naming."""

    backup_id: str
    state: Literal["waiting", "retrying", "committed", "dead"]
    #: Who told it.
    source: Literal["redis", "git"] = "redis"
    #: Once it is committed.
    receipt: Receipt | None = None
    #: Why it waits or is dead.
    reason: str | None = None
    #: What to do about that.
    hint: str | None = None


class LabelsBody(BaseModel):
    """Labels of a device. What is left out stays as it is; an empty text takes a label away."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = Field(None, examples=["core1"])
    address: str | None = Field(None, examples=["10.0.0.1"])
    model: str | None = None
    group: str | None = Field(None, examples=["core"])


class ErasureBody(BaseModel):
    """The id of the device to erase, whole, once more."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    device_id: str


class ErasedAnswer(Answer):
    """An erasure."""

    device_id: str
    #: `running`: it goes on. Ask again; when it is done, there is no such device.
    state: Literal["done", "running"]
    commits: int | None = None
    dead_letters: int | None = None
    records: int | None = None


Wait = Annotated[
    float,
    Query(ge=0, le=_MOST_WAIT_S, description="Seconds to wait for the receipt; 0: not at all."),
]
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["export"],
                    "properties": {
                        "export": {"type": "string", "format": "binary"},
                        "binary": {"type": "string", "format": "binary"},
                        **{name: {"type": "string"} for name in sorted(uploads.FIELDS)},
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/JsonBackup"}},
        },
    }
}
_LOCATION: Final = {"Location": header("Where to ask what became of it.")}
_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "What became of it, once its receipt is there.", "headers": _LOCATION},
    202: {
        "model": BackupState,
        "description": "Accepted: it is committed once, whatever happens.",
        "headers": _LOCATION,
    },
    **documented(409),
    **OF_BODIES,
}


@router.post(
    "/tenants/{tenant}/devices/{device}/backups",
    response_model=BackupState,
    responses={**_ACCEPTED, **documented(415)},
    openapi_extra=_FORM,
)
async def hand_over(
    request: Request,
    tenant: str,
    device: str,
    caller: Enqueues,
    context: Here,
    idempotency_key: Annotated[
        str | None,
        Header(description="The backup's id, a UUID: the same id is committed once, ever."),
    ] = None,
    wait: Wait = 0,
    priority: Annotated[
        Priority,
        Query(description="`high`: before other tenants' backups. A tenant's own order stays."),
    ] = "normal",
) -> Response:
    """Hand over a backup: 202 once it is accepted, or with `wait` 200 with its receipt.

    A device is named by its UUID, which need not be known, or by what a known one is called.
    """
    tenant_id, device_id = await _place(context, caller, tenant, device)
    values = await uploads.read_backup(request)
    if idempotency_key is not None:
        if values.get("backup_id", idempotency_key) != idempotency_key:
            raise InvalidBackup("Idempotency-Key", "and backup_id differ")
        values["backup_id"] = idempotency_key
    values.setdefault("message", f"backup from {caller.name}")

    def send(_client: redis.Redis) -> str:
        payload = BackupPayload.checked(tenant_id=tenant_id, device_id=device_id, **values)
        enqueue.refuse_suspects([payload])
        enqueue.submit([payload], high=priority == "high")
        return payload.backup_id

    backup_id = await context.ask(send, HAND_OVER_S, context.senders)
    values.clear()
    return await _state_after(context, backup_id, wait)


@router.patch(
    "/tenants/{tenant}/devices/{device}",
    response_model=BackupState,
    responses=_ACCEPTED,
    openapi_extra=json_body({"$ref": "#/components/schemas/LabelsBody"}),
)
async def name(
    request: Request, tenant: str, device: str, caller: Enqueues, context: Here, wait: Wait = 0
) -> Response:
    """Give a device labels. The naming is accepted and committed in order with the backups."""
    tenant_id, device_id = await _place(context, caller, tenant, device)
    labels = uploads.parsed(LabelsBody, await uploads.read_json(request))

    def send(_client: redis.Redis) -> str:
        naming: NamingPayload = naming_of(tenant_id, device_id, labels.model_dump())
        enqueue.submit([naming])
        return naming.backup_id

    return await _state_after(context, await context.ask(send), wait)


@router.get("/backups/{backup_id}", response_model=BackupState)
async def backup(backup_id: str, caller: Reads, context: Here, wait: Wait = 0) -> Response:
    """What became of a backup: Redis tells it for some days, git for ever."""
    checked = checked_uuid("backup_id", backup_id)
    unknown = UnknownBackup("backup_id", f"no backup {checked} is known")
    found = await context.ask(lambda client: in_redis(client, checked))
    if found is not None and caller.tenants is not None and found.tenant_id not in caller.tenants:
        found = None
    if found is not None:
        if found.state in ("PENDING", "RETRY") and wait:
            return await _state_after(context, checked, wait)
        return json_of(_found(context, checked, found))
    receipt = await context.read(lambda reader: reader.receipt(checked, caller.tenants))
    if receipt is None:
        raise unknown
    return json_of(_state(checked, "SUCCESS", receipt, source="git"))


@router.delete(
    "/tenants/{tenant}/devices/{device}",
    response_model=ErasedAnswer,
    responses={
        202: {"model": ErasedAnswer, "description": "It goes on."},
        **documented(409),
        **OF_BODIES,
    },
    openapi_extra=json_body({"$ref": "#/components/schemas/ErasureBody"}),
)
async def erase(
    request: Request, tenant: str, device: str, caller: Administers, context: Here
) -> Response:
    """Erase a device and all its backups for good, with a proof. The body repeats the device's whole id."""
    tenant_id, device_id = await context.read_of(
        caller, tenant, lambda reader, found: (found, reader.device(found, device).device_id)
    )
    body = uploads.parsed(ErasureBody, await uploads.read_json(request))
    if body.device_id != device_id:
        raise InvalidBackup(
            "device_id", "must be the whole id of the device that the address names"
        )
    if not context.settings.http_store:
        raise StoreMissing("this process does not reach the store: do it where the workers are")

    def run() -> Erased:
        return forget_device(context.settings, tenant_id, device_id, wait_s=_ERASURE_WAIT_S)

    with anyio.move_on_after(_ERASURE_S):
        erased = await to_thread.run_sync(run, abandon_on_cancel=True, limiter=context.searchers)
        return json_of(
            ErasedAnswer(
                device_id=device_id,
                state="done",
                commits=erased.commits,
                dead_letters=erased.dead_letters,
                records=erased.records,
            )
        )
    return json_of(ErasedAnswer(device_id=device_id, state="running"), 202)


async def _place(context: Context, caller: Caller, tenant: str, device: str) -> tuple[str, str]:
    """The tenant and device that a path names. Whole ids need no reader: a new device has no name yet."""
    tenant_id = device_id = None
    with contextlib.suppress(InvalidId):
        tenant_id = checked_uuid("tenant", tenant)
    with contextlib.suppress(InvalidId):
        device_id = checked_uuid("device", device)

    def ask(reader: Reader, found: str) -> tuple[str, str]:
        return found, device_id or reader.device(found, device).device_id

    if tenant_id is not None and device_id is not None and caller.sees(tenant_id):
        return tenant_id, device_id
    return await context.read_of(caller, tenant, ask)


async def _state_after(context: Context, backup_id: str, wait_s: float) -> Response:
    """The answer after a hand-over, once the receipt is there or the time is over."""
    location = {"Location": f"/v1/backups/{backup_id}"}
    if not wait_s:
        return json_of(_state(backup_id, "PENDING"), 202, location)
    try:
        receipt = await awaiting.receipt(backup_id, wait_s)
    except NoReceipt as error:
        state = _state(backup_id, "PENDING", error=error)
        # It is accepted, whatever becomes of this look.
        with contextlib.suppress(BrokerUnavailable):
            found = await context.ask(lambda client: in_redis(client, backup_id))
            if found is not None and found.state != "PENDING":
                state = _found(context, backup_id, found)
        return json_of(state, 200 if state.state in ("committed", "dead") else 202, location)
    except PoisonedBackup as error:
        return json_of(_state(backup_id, "FAILURE", error=error), 200, location)
    return json_of(_state(backup_id, "SUCCESS", receipt), 200, location)


def _found(context: Context, backup_id: str, found: Known) -> BackupState:
    receipt = None if found.receipt is None else Receipt.of(dict(found.receipt))
    state = _state(backup_id, found.state, receipt, found.error)
    step = next_step(found, context.settings)
    return state if step is None else state.model_copy(update={"hint": step})


def _state(
    backup_id: str,
    state: str,
    receipt: Receipt | None = None,
    error: ConfkeepError | None = None,
    source: Literal["redis", "git"] = "redis",
) -> BackupState:
    return BackupState(
        backup_id=backup_id,
        state=_STATES[state],
        source=source,
        receipt=receipt,
        reason=None if error is None else str(error),
        hint=None if error is None else error.hint,
    )
