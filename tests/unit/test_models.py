"""The producers' models: every limit holds at its edge, and refusals never repeat the input."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confkeep.errors import InvalidBackup
from confkeep.models import (
    MAX_BINARY_BYTES,
    MAX_EXPORT_BYTES,
    MAX_MESSAGE_BYTES,
    BackupPayload,
    ReceivedBackup,
)

GOOD: dict[str, Any] = {
    "tenant_id": "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    "device_id": "16fd2706-8baf-433b-82eb-8c7fada847da",
    "export_text": "/ip address\n",
    "binary_backup": None,
    "message": "",
}


def refused(**values: Any) -> InvalidBackup:
    with pytest.raises(InvalidBackup) as raised:
        BackupPayload.checked(**{**GOOD, **values})
    return raised.value


@pytest.mark.parametrize(
    ("field", "limit", "size"),
    [
        ("export_text", "16 MiB", MAX_EXPORT_BYTES),
        ("binary_backup", "64 MiB", MAX_BINARY_BYTES),
        ("message", "4 KiB", MAX_MESSAGE_BYTES),
    ],
)
def test_each_limit_holds_at_its_edge(field: str, limit: str, size: int) -> None:
    def value(length: int) -> object:
        return b"x" * length if field == "binary_backup" else "x" * length

    BackupPayload.checked(**{**GOOD, field: value(size)})
    error = refused(**{field: value(size + 1)})
    assert error.field == field
    assert limit in error.problem
    assert f"{size:,} bytes" in error.problem


def test_limits_count_bytes_and_not_characters() -> None:
    assert refused(message="é" * (MAX_MESSAGE_BYTES // 2 + 1)).field == "message"


@pytest.mark.parametrize("text", ["", " ", "\r\n\t \n"])
def test_a_blank_export_is_refused(text: str) -> None:
    assert str(refused(export_text=text)) == "export_text: must not be blank"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "../../etc/passwd",
        "/etc/passwd",
        "6fa459ea-ee8a-3ca4-894e-db77e160355e\0",
        "6fa459ea-ee8a-3ca4-894e-db77e160355e/..",
        "{6fa459ea-ee8a-3ca4-894e-db77e160355e}",
        "urn:uuid:6fa459ea-ee8a-3ca4-894e-db77e160355e",
        "6fa459ea-ee8a-3ca4-894edb77e160355e",
        "6fa459ea-ee8a-3ca4-894e-db77e160355\u0665",
        "6fa459ea\u2010ee8a-3ca4-894e-db77e160355e",
        " 6fa459ea-ee8a-3ca4-894e-db77e160355e",
        "6fa459ea-ee8a-3ca4-894e-db77e160355e\n",
        7,
        None,
        b"6fa459ea-ee8a-3ca4-894e-db77e160355e",
    ],
)
@pytest.mark.parametrize("field", ["tenant_id", "device_id", "backup_id"])
def test_only_uuids_are_ids(field: str, value: object) -> None:
    assert refused(**{field: value}).field == field


def test_ids_become_canonical() -> None:
    id_ = uuid.UUID(int=255)
    for spelled in (id_, str(id_), str(id_).upper(), id_.hex, id_.hex.upper()):
        payload = BackupPayload.checked(**{**GOOD, "tenant_id": spelled, "device_id": spelled})
        assert payload.tenant_id == payload.device_id == "00000000-0000-0000-0000-0000000000ff"
        assert uuid.UUID(payload.backup_id).version == 4


@pytest.mark.parametrize(
    "when",
    [
        dt.datetime(2026, 1, 1),  # noqa: DTZ001 - that it has no zone is the point
        dt.datetime(1969, 12, 31, tzinfo=dt.UTC),
        dt.datetime(2101, 1, 1, tzinfo=dt.UTC),
    ],
)
def test_a_capture_date_has_a_zone_and_lies_in_gits_years(when: object) -> None:
    assert refused(captured_at=when).field == "captured_at"


@pytest.mark.parametrize(
    "when",
    ["2026", "20261003", "1.5", " 7 ", b"2026", "2026-10-03", "2026-10-03T10:00:00", "yesterday"],
)
def test_a_text_that_is_no_moment_is_told_what_one_looks_like(when: str | bytes) -> None:
    error = refused(captured_at=when)
    assert error.field == "captured_at"
    assert "in ISO 8601, such as 2026-09-30T10:00:00Z" in error.problem


def test_undecodable_bytes_come_back_and_impossible_text_is_refused() -> None:
    text = b"/ip \xff\xe9\r\n".decode("utf-8", "surrogateescape")
    assert BackupPayload.checked(**{**GOOD, "export_text": text}).export_text == b"/ip \xff\xe9\r\n"
    assert refused(export_text="\ud800").field == "export_text"
    assert refused(message="\ud800").field == "message"
    assert refused(message="a\0b").field == "message"


SECRET = "s3cr3t-" + "x" * 20


@given(
    field=st.sampled_from(sorted(GOOD)),
    value=st.one_of(
        st.none(), st.integers(), st.text(), st.binary(), st.lists(st.text()), st.just(SECRET)
    ),
)
def test_any_input_is_taken_or_refused_by_the_declared_error(field: str, value: object) -> None:
    try:
        payload = BackupPayload.checked(**{**GOOD, field: value})
    except InvalidBackup as error:
        assert error.field == field
        assert SECRET not in str(error)
    else:
        assert SECRET not in repr(payload)


def test_reprs_and_refusals_hold_no_payload() -> None:
    assert SECRET not in repr(
        BackupPayload.checked(
            **{**GOOD, "export_text": SECRET, "binary_backup": SECRET.encode(), "message": SECRET}
        )
    )
    with pytest.raises(InvalidBackup) as raised:
        ReceivedBackup.checked(**{**GOOD, "export_text": SECRET, "message": "m"})
    assert SECRET not in str(raised.value)


def test_a_received_backup_gives_its_export_once() -> None:
    base = {key: GOOD[key] for key in ("tenant_id", "device_id", "message")}
    reference = {"id": GOOD["tenant_id"], "size_bytes": 1, "sha256": "0" * 64}
    for wrong in (
        {},
        {"export_text": "/x", "export_base64": "Lw=="},
        {"export_text": "/x", "export_staged": reference},
        {"export_text": "/x", "binary_base64": "Lw==", "binary_staged": reference},
        {"export_text": "/x", "binary_staged": {**reference, "sha256": "0"}},
        {"export_text": "/x", "binary_staged": {**reference, "size_bytes": -1}},
    ):
        with pytest.raises(InvalidBackup):
            ReceivedBackup.checked(**base, **wrong)
    assert ReceivedBackup.checked(**base, export_staged=reference).export_staged is not None
