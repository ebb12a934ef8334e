"""Takes in what Oxidized's `http` output sends: each text that it collected, as a backup.

Oxidized posts JSON (`lib/oxidized/output/http.rb`): `msg`, `user`, `email`, `group`, `node` and `config`, with
Basic authentication or headers from its settings. Only 200 counts as success there.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from contextlib import suppress
from typing import Any, Final

import redis
from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from confkeep.enqueue import refuse_suspects, submit
from confkeep.errors import InvalidBackup, InvalidInput, NotInStore
from confkeep.models import MAX_EXPORT_BYTES, MAX_MESSAGE_BYTES, BackupPayload
from confkeep.naming import name_tenant
from worker.engine.made_ids import NAMESPACE, made_device_id, made_id, naming_id
from worker.http.access import Caller
from worker.http.callers import OxidizedEnqueues
from worker.http.context import HAND_OVER_S, Here
from worker.http.oxidized.bodies import object_in, text_in
from worker.http.oxidized.nodes import NO_GROUP
from worker.http.problems import OF_BODIES, RESPONSES, documented, json_body
from worker.http.uploads import read_json
from worker.reading.answers import DeviceEntry, TenantEntry
from worker.reading.reader import Reader, devices_so_far

#: Most bytes of a body: an export of the greatest size, of which JSON may write each second byte as two.
_MOST_BYTES: Final = 2 * MAX_EXPORT_BYTES
#: Most characters of a text beside the configuration.
_MOST_TEXT: Final = MAX_MESSAGE_BYTES

router = APIRouter(prefix="/ingest", tags=["ingest"], responses=RESPONSES)


class OxidizedBackup(BaseModel):
    """What Oxidized's `http` output sends."""

    node: str = Field(examples=["r1.example.net"])
    config: str = Field(examples=["/system identity\nset name=r1\n"])
    group: str | None = Field(None, examples=["edge"])
    msg: str | None = Field(None, examples=["update r1.example.net"])
    user: str | None = Field(None, examples=["alice"])
    email: str | None = Field(None, examples=["alice@example.com"])
    #: Oxidized does not send it; where something else does, it becomes the device's label.
    model: str | None = Field(None, examples=["RouterOS"])


class Ingested(BaseModel):
    """Where a text went."""

    backup_id: str
    tenant_id: str
    device_id: str


@router.post(
    "/oxidized",
    responses={**documented(409), **OF_BODIES},
    openapi_extra=json_body(OxidizedBackup.model_json_schema()),
)
async def ingest(request: Request, caller: OxidizedEnqueues, context: Here) -> Ingested:
    """Hand over a text that Oxidized collected. Once this is answered, it is committed once, whatever dies."""
    sent = await to_thread.run_sync(object_in, await read_json(request, _MOST_BYTES))
    node, config = text_in(sent, "node", _MOST_TEXT), sent.get("config")
    if not node or not isinstance(config, str):
        raise InvalidInput("config" if node else "node", "must be text that is not blank")
    group = text_in(sent, "group", _MOST_TEXT) or None
    tenant, device = await context.read(lambda reader: find_device(reader, caller, group, node))
    known = device if isinstance(device, DeviceEntry) else None
    backup_id = request.headers.get("idempotency-key")

    def hand_over(_client: redis.Redis) -> BackupPayload:
        payload = BackupPayload.checked(
            tenant_id=tenant.tenant_id,
            device_id=device if isinstance(device, str) else device.device_id,
            export_text=config,
            message=message_of(sent, node),
            backup_id=backup_id or backup_id_of(tenant.tenant_id, node, group, config, time.time()),
            device_model=text_in(sent, "model", _MOST_TEXT),
            **_labels(caller, group, node, known),
        )
        refuse_suspects([payload])
        submit([payload])
        if tenant.name is None and group is not None and made_id(group) == tenant.tenant_id:
            with suppress(InvalidBackup):  # a group that is no label
                name_tenant(tenant.tenant_id, group, backup_id=naming_id(tenant.tenant_id, group))
        return payload

    payload = await context.ask(hand_over, HAND_OVER_S, context.senders)
    return Ingested(
        backup_id=payload.backup_id, tenant_id=payload.tenant_id, device_id=payload.device_id
    )


def find_device(
    reader: Reader, caller: Caller, group: str | None, node: str
) -> tuple[TenantEntry, DeviceEntry | str]:
    """The tenant of a node, and the device: its entry, or the id for a new one.

    The device is the one that an import of Oxidized's repository makes of the node; else the one that is
    called so.

    Raises:
        NotInStore: the token may see several tenants, and none is called like the group.
    """
    tenant = _tenant(reader, caller, group)
    alone = caller.sees_one
    # What an import calls the tenant: the name of which its id was made, else the id.
    names = filter(None, (tenant.name, group or NO_GROUP))
    source = next((name for name in names if made_id(name) == tenant.tenant_id), tenant.tenant_id)
    is_group = alone and group not in (None, tenant.name, source)
    made = made_device_id(source, f"{group}/{node}" if is_group else node)
    devices = devices_so_far(reader, tenant.tenant_id)
    for each in devices:
        if each.device_id == made:
            return tenant, each
    labelled = [
        each for each in devices if each.name == node and (not alone or each.group in (None, group))
    ]
    return tenant, labelled[0] if len(labelled) == 1 else made


def _tenant(reader: Reader, caller: Caller, group: str | None) -> TenantEntry:
    """The one that the token may see; else the one that is called like the group, or a new one."""
    among = reader.tenants(caller.tenants)
    if caller.sees_one:
        return among[0]
    name = group or NO_GROUP
    made = made_id(name)
    for each in among:
        if each.tenant_id == made:
            return each
    named = [each for each in among if each.name == name]
    if len(named) == 1:
        return named[0]
    if named or caller.tenants is not None:
        raise NotInStore(
            f"{len(named) or 'no'} tenants are called like the group",
            hint="Use a token for one tenant, or a group that is the name of one.",
        )
    return TenantEntry(tenant_id=made)


def _labels(
    caller: Caller, group: str | None, node: str, known: DeviceEntry | None
) -> dict[str, Any]:
    """The labels for a device that has none yet; names that people gave stay."""
    labels: dict[str, Any] = {}
    if known is None or known.name in (None, known.own_name):
        labels["device_name"] = node
    if caller.sees_one and (known is None or known.group is None):
        labels["device_group"] = group
    return labels


def message_of(sent: dict[str, Any], node: str) -> str:
    """The commit's message: what Oxidized says of the update, and by whom the change is."""
    message = text_in(sent, "msg", _MOST_TEXT) or f"update {node}"
    user, email = text_in(sent, "user", 253), text_in(sent, "email", 253)
    tail = ""
    if user or email:
        tail = "\n\nBy " + " ".join(filter(None, (user, f"<{email}>" if email else None)))
    text = message.replace("\0", "").encode("utf-8", "replace")
    end = tail.replace("\0", "").encode("utf-8", "replace")
    return (text[: MAX_MESSAGE_BYTES - len(end)] + end).decode("utf-8", "ignore")


def backup_id_of(tenant_id: str, node: str, group: str | None, config: str, now_s: float) -> str:
    """The same for the same text of a node within a minute: what is sent again is committed once."""
    digest = hashlib.sha256(config.encode("utf-8", "surrogatepass")).hexdigest()
    name = f"{tenant_id}/{group or ''}/{node}/{digest}/{int(now_s) // 60}"
    return str(uuid.uuid5(NAMESPACE, name))
