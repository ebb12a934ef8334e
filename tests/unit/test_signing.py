"""Signatures: what they bind, how keys are replaced, and that nobody sees a key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from typing import Any

import pytest

from confkeep.errors import InvalidBackup, InvalidInput, InvalidSettings
from confkeep.models import BackupPayload
from confkeep.settings import Settings, load_settings
from confkeep.sign import check_receive
from confkeep.signing import ENTRY, RECEIVE, Keyring
from tasks import signed_receive

OLD, NEW, OTHER = ("old-" + "o" * 32, "new-" + "n" * 32, "bad-" + "b" * 32)


def settings(key: str, **more: Any) -> Settings:
    return load_settings(signing_key=key, **more)


def test_the_first_key_signs_and_all_verify() -> None:
    both = Keyring.parse(f"{NEW}, {OLD}")
    by_old = Keyring.parse(OLD).sign(ENTRY, b"tenant", b"text")
    assert both.sign(ENTRY, b"tenant", b"text") == Keyring.parse(NEW).sign(
        ENTRY, b"tenant", b"text"
    )
    assert both.verifies(by_old, ENTRY, b"tenant", b"text")
    assert not Keyring.parse(NEW).verifies(by_old, ENTRY, b"tenant", b"text")
    expected = hmac.new(OLD.encode(), b"confkeep entry 1\ntenant\ntext", hashlib.sha256)
    assert by_old == expected.hexdigest()


@pytest.mark.parametrize(
    "parts", [(b"other", b"text"), (b"tenant", b"text "), (b"tenant",), (b"tenant", b"text", b"")]
)
def test_a_signature_binds_every_part_and_its_purpose(parts: tuple[bytes, ...]) -> None:
    keyring = Keyring.parse(NEW)
    signature = keyring.sign(ENTRY, b"tenant", b"text")
    assert not keyring.verifies(signature, ENTRY, *parts)
    assert not keyring.verifies(signature, RECEIVE, b"tenant", b"text")


@pytest.mark.parametrize("signature", ["", "0" * 63, "0" * 64, "F" * 64, "é" * 64, "0" * 64 + "\n"])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not Keyring.parse(NEW).verifies(signature, ENTRY, b"text")


@pytest.mark.parametrize(
    "text", ["x" * 31, f"{NEW},", f"{NEW},short", "a key" + "s" * 32, "é" * 40]
)
def test_a_weak_key_is_refused_and_never_shown(text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        settings(text)
    assert caught.value.field == "CONFKEEP_SIGNING_KEY"
    assert text not in str(caught.value)


def test_keys_show_nowhere() -> None:
    made = settings(f"{NEW},{OLD}")
    for text in (repr(made), str(made), repr(made.keyring), str(made.model_dump())):
        assert NEW not in text
        assert OLD not in text
    assert settings("").keyring is None
    assert load_settings().keyring is None


IDS = {
    "tenant_id": str(uuid.UUID(int=1)),
    "device_id": str(uuid.UUID(int=2)),
    "backup_id": str(uuid.UUID(int=3)),
}
EXPORT = "/ip \udce9\n"
BYTES = EXPORT.encode("utf-8", "surrogateescape")
SENT: dict[str, Any] = {**IDS, "message": "ä", "export_text": EXPORT}


def payload(**more: Any) -> BackupPayload:
    return BackupPayload.checked(**{**SENT, **more})


def staged(data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"id": str(uuid.UUID(int=9)), "size_bytes": len(data), "sha256": digest}


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        (SENT, {}),
        ({**SENT, "captured_at": "2026-01-02T03:04:05Z"}, {}),
        ({**SENT, "binary_base64": "eA=="}, {"binary_backup": b"x"}),
        ({**SENT, "binary_staged": staged(b"x")}, {"binary_backup": b"x"}),
        ({**IDS, "message": "ä", "export_base64": base64.b64encode(BYTES).decode()}, {}),
        ({**IDS, "message": "ä", "export_staged": staged(BYTES)}, {}),
    ],
)
def test_a_signed_message_passes_however_its_bytes_come(
    sent: dict[str, Any], held: dict[str, Any]
) -> None:
    message = signed_receive(NEW, **sent)
    check_receive(settings(f"{OLD},{NEW}"), payload(**held), message)
    # In a retry the same message comes again, and with a message of the old form all is one.
    with pytest.raises(InvalidBackup, match="signature"):
        check_receive(settings(OTHER), payload(**held), message)


def test_the_formula_is_the_documented_one() -> None:
    message = signed_receive(NEW, **SENT, binary_base64="eA==")
    lines = [
        "confkeep receive 1",
        *IDS.values(),
        "-",
        hashlib.sha256("ä".encode()).hexdigest(),
        hashlib.sha256(BYTES).hexdigest(),
        hashlib.sha256(b"x").hexdigest(),
    ]
    expected = hmac.new(NEW.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    assert message == {**SENT, "binary_base64": "eA==", "signature": expected}


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant_id": str(uuid.UUID(int=8))},
        {"device_id": str(uuid.UUID(int=8))},
        {"backup_id": str(uuid.UUID(int=8))},
        {"message": "other"},
        {"export_text": "other"},
        {"binary_backup": b"planted"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_changed_message_is_refused(changed: dict[str, Any]) -> None:
    message = signed_receive(NEW, **SENT)
    with pytest.raises(InvalidBackup) as caught:
        check_receive(settings(NEW), payload(**changed), message)
    assert caught.value.field == "signature"
    with pytest.raises(InvalidBackup):
        check_receive(settings(NEW), payload(), {**message, "captured_at": "2026-01-02T03:04:05Z"})


def test_what_has_no_signature_is_refused_unless_a_key_is_being_introduced() -> None:
    with pytest.raises(InvalidBackup, match="is missing"):
        check_receive(settings(NEW), payload(), SENT)
    check_receive(settings(NEW, signing_required=False), payload(), SENT)
    check_receive(load_settings(), payload(), SENT)
    wrong = signed_receive(OTHER, **SENT)
    with pytest.raises(InvalidBackup, match="none of the keys"):
        check_receive(settings(NEW, signing_required=False), payload(), wrong)


def test_a_client_gets_a_backup_id_and_clear_errors() -> None:
    without = {name: value for name, value in SENT.items() if name != "backup_id"}
    assert uuid.UUID(signed_receive(NEW, **without)["backup_id"]).version == 4
    with pytest.raises(InvalidBackup):
        signed_receive(NEW, **{**SENT, "tenant_id": "nobody"})
    with pytest.raises(InvalidInput, match="signing_key"):
        signed_receive("short", **SENT)
