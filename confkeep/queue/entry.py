"""The inbox entry of a backup: its fields, its JSON text and its signature."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from confkeep import signing
from confkeep.broker import redis_values
from confkeep.errors import NotSigned, PoisonedBackup
from confkeep.ids import checked_uuid
from confkeep.labels import LABEL_NAMES, Labels, checked_label
from confkeep.settings import Settings
from confkeep.signing import Keyring

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: More than any file of a backup may have, and small enough for the server's counters.
_LARGEST_BYTES = 2**40
#: `json.dumps` makes a new one at each call that asks for other separators.
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"))

#: The `staging` of a naming, which has no bytes.
NOWHERE: Final = "none"


@dataclass(frozen=True, slots=True)
class Entry:
    """What an inbox knows of a backup; its bytes are in staging."""

    backup_id: str
    device_id: str
    message: str
    #: ISO 8601 with an offset, or None.
    captured_at: str | None
    export_bytes: int
    export_sha256: str
    #: Both None if the capture has no binary.
    binary_bytes: int | None
    binary_sha256: str | None
    #: Where the bytes are: `redis`, `volume`, or `none` for a naming, which has none. Earlier releases
    #: refuse a naming.
    staging: str
    #: The labels that came with it.
    device_name: str | None = None
    device_address: str | None = None
    device_model: str | None = None
    device_group: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return self.export_bytes + (self.binary_bytes or 0)

    @property
    def is_naming(self) -> bool:
        """Whether the entry is a naming, and no capture."""
        return self.staging == NOWHERE

    @property
    def labels(self) -> Labels:
        """The labels that came with it."""
        return Labels(self.device_name, self.device_address, self.device_model, self.device_group)

    def digest(self, tenant_id: str) -> str:
        """The SHA-256 of tenant, device and bytes: two calls with one id and one digest are one backup.

        It leaves out message, capture time and labels, since a producer that repeats a call may send
        others. The digest of a naming includes its labels: it has nothing else.
        """
        parts = [tenant_id, self.device_id, self.export_sha256, self.binary_sha256 or "-"]
        if self.is_naming:
            parts.append(json.dumps(self.labels.values()))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def to_json(self) -> str:
        """The text that stands in the stream; ASCII."""
        values = {field: getattr(self, field) for field in self.__slots__}
        if not self.labels:
            # Leave the fields out: most entries have no labels, and earlier releases know no such fields.
            values = {name: value for name, value in values.items() if name not in _LABEL_FIELDS}
        return _COMPACT.encode(values)

    @classmethod
    def from_json(cls, text: bytes | str) -> Entry:
        """Parse the text of `to_json`; fields of later releases are ignored.

        Raises:
            PoisonedBackup: the text is not ours.
        """
        try:
            entry = redis_values.record_of(cls, redis_values.object_of(text))
            entry.check()
        except (TypeError, ValueError, ArithmeticError) as error:
            raise PoisonedBackup("the inbox entry cannot be read") from error
        return entry

    def check(self) -> None:
        """Refuse values that enqueue never writes: others may write to the server too.

        Raises:
            TypeError, ValueError, ArithmeticError: a field is invalid.
        """
        for name in ("backup_id", "device_id"):
            if checked_uuid(name, getattr(self, name)) != getattr(self, name):
                raise ValueError(name)
        if b"\0" in self.message.encode("utf-8", "surrogateescape"):
            raise ValueError("message")
        if self.captured_at is not None:
            when = dt.datetime.fromisoformat(self.captured_at)
            if when.utcoffset() is None or not 0 <= when.timestamp() < 2**32:
                raise ValueError("captured_at")
        if (self.binary_bytes is None) != (self.binary_sha256 is None):
            raise ValueError("binary_sha256")
        for size in (self.export_bytes, self.binary_bytes or 0):
            if type(size) is not int or not 0 <= size <= _LARGEST_BYTES:
                raise ValueError("size")
        for digest in (self.export_sha256, self.binary_sha256 or "0" * 64):
            if not _SHA256.fullmatch(digest):
                raise ValueError("sha256")
        if self.staging not in ("redis", "volume", NOWHERE) or (self.is_naming and self.size_bytes):
            raise ValueError("staging")
        for label in self.labels.values():
            if label is not None and checked_label(label) != label:
                raise ValueError("label")


_LABEL_FIELDS: Final = frozenset(f"device_{name}" for name in LABEL_NAMES)


def sign(keyring: Keyring, tenant_id: str, text: str) -> str:
    """The signature of an entry's text in a tenant's inbox."""
    return keyring.sign(signing.ENTRY, tenant_id.encode(), text.encode())


def check_signature(settings: Settings, tenant_id: str, text: bytes, signature: str | None) -> None:
    """Refuse an entry that none of our keys signed for this tenant; without a key, accept all.

    Raises:
        NotSigned: the entry may be forged.
    """
    keyring = settings.keyring
    if keyring is None or (signature is None and not settings.signing_required):
        return
    if signature is None:
        raise NotSigned("the inbox entry has no signature")
    if not keyring.verifies(signature, signing.ENTRY, tenant_id.encode(), text):
        raise NotSigned("none of the keys made the inbox entry's signature")
