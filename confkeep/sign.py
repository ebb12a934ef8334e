"""Sign `backups.receive` messages, and check their signatures."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from confkeep import signing
from confkeep.errors import InvalidBackup, InvalidInput
from confkeep.models import (
    MAX_BINARY_BYTES,
    MAX_EXPORT_BYTES,
    BackupPayload,
    ReceivedBackup,
    decode_base64,
)
from confkeep.settings import Settings
from confkeep.signing import Keyring


def signed_receive(signing_key: str, **backup: Any) -> dict[str, Any]:
    """The keyword arguments of a `backups.receive` message, with their signature.

    For clients that send the task by name, where the workers have a CONFKEEP_SIGNING_KEY. A client
    in another language signs these lines, joined by a newline, with HMAC-SHA256:

        confkeep receive 1
        tenant_id, device_id and backup_id      UUIDs in lower case, a line each
        captured_at                             as it is sent, or `-`
        SHA-256 of the message as UTF-8         64 hexadecimal digits, as the next two
        SHA-256 of the export's bytes
        SHA-256 of the binary's bytes           or `-` when there is none
        SHA-256 of each label as UTF-8          name, address, model, group, a line each, without the
                                                white space around it; `-` for one that is not sent.
                                                No lines if no label is sent

    The signature is 64 hexadecimal digits. Send the backup_id along, so that a repeated message is
    the same backup.

    Args:
        signing_key: the value of CONFKEEP_SIGNING_KEY; of several keys the first one signs.
        backup: the arguments of `confkeep.ReceivedBackup`, as JSON values. Without a backup_id it gets
            a new one.

    Raises:
        InvalidBackup: names the field and its limit.
        InvalidInput: the key is malformed.
    """
    try:
        keyring = Keyring.parse(signing_key)
    except ValueError as error:
        raise InvalidInput("signing_key", str(error)) from None
    values = {**backup}
    values["backup_id"] = str(values.get("backup_id") or uuid.uuid4())
    received = ReceivedBackup.checked(**values)
    export, binary = received.export_staged, received.binary_staged
    parts = _parts(
        received,
        values.get("captured_at"),
        export.sha256 if export else hashlib.sha256(_export(received)).hexdigest(),
        binary.sha256 if binary else _binary_digest(received.binary_base64),
    )
    return {**values, "signature": keyring.sign(signing.RECEIVE, *parts)}


def check_receive(settings: Settings, payload: BackupPayload, sent: Mapping[str, Any]) -> None:
    """Refuse a message that none of our keys signed; without a key, accept all.

    Args:
        payload: what the message holds, checked.
        sent: the message's keyword arguments.

    Raises:
        InvalidBackup: the signature is missing or wrong; nothing was kept.
    """
    keyring, signature = settings.keyring, sent.get("signature")
    if keyring is None or (signature is None and not settings.signing_required):
        return
    if signature is None:
        raise InvalidBackup("signature", "is missing, and CONFKEEP_SIGNING_KEY is set here")
    binary = payload.binary_backup
    parts = _parts(
        payload,
        sent.get("captured_at"),
        hashlib.sha256(payload.export_text).hexdigest(),
        "-" if binary is None else hashlib.sha256(binary).hexdigest(),
    )
    if not keyring.verifies(signature, signing.RECEIVE, *parts):
        raise InvalidBackup("signature", "was made by none of the keys, or for another backup")


def _parts(
    backup: BackupPayload | ReceivedBackup,
    captured_at: object,
    export_sha256: str,
    binary_sha256: str,
) -> tuple[bytes, ...]:
    message = backup.message.encode("utf-8", "surrogateescape")
    labels = [
        "-" if label is None else hashlib.sha256(label.encode()).hexdigest()
        for label in backup.labels.values()
    ]
    lines = (
        backup.tenant_id,
        backup.device_id,
        str(backup.backup_id),
        "-" if captured_at is None else str(captured_at),
        hashlib.sha256(message).hexdigest(),
        export_sha256,
        binary_sha256,
        *(labels if backup.labels else ()),
    )
    return tuple(line.encode() for line in lines)


def _export(received: ReceivedBackup) -> bytes:
    if received.export_base64 is not None:
        return decode_base64("export_base64", received.export_base64, MAX_EXPORT_BYTES)
    assert received.export_text is not None
    return received.export_text.encode("utf-8", "surrogateescape")


def _binary_digest(text: str | None) -> str:
    if text is None:
        return "-"
    data = decode_base64("binary_base64", text, MAX_BINARY_BYTES)
    return hashlib.sha256(data).hexdigest()
