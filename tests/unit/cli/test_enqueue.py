"""`confkeep enqueue`: what it says of what it hands over."""

from __future__ import annotations

from pathlib import Path

import pytest

from confkeep import BackupPayload
from tests.unit.cli.conftest import ROUTER, TENANT, Confkeep, Store
from worker.cli import enqueue

EXPORT = b"# 2026-09-30 10:00:01 by RouterOS 7.16\n/ip address\nadd address=10.0.0.1/24\n"


@pytest.mark.parametrize(
    ("binary", "is_export"),
    [
        (EXPORT, True),
        (EXPORT.replace(b"\n", b"\r\n"), True),
        (b"\x88\xac\xa1\xb1\x10\0\0\0/ip/ip/ip", False),
        # Another maker's second file may be text.
        (b"config system global\n    hostname fw1\nend\n", False),
    ],
)
def test_a_binary_that_is_an_export_is_taken_with_a_warning(
    store: Store,
    confkeep: Confkeep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    binary: bytes,
    is_export: bool,
) -> None:
    taken: list[BackupPayload] = []
    monkeypatch.setattr(enqueue, "enqueue_backups", lambda given, **_: taken.extend(given))
    (tmp_path / "core1.rsc").write_bytes(EXPORT)
    (tmp_path / "core1.backup").write_bytes(binary)

    files = ("--export", tmp_path / "core1.rsc", "--binary", tmp_path / "core1.backup")
    done = confkeep("enqueue", TENANT, ROUTER, *files, "-m", "m")

    assert done.exit_code == 0, done.stderr
    assert [payload.binary_backup for payload in taken] == [binary]
    assert ("--binary is a text export" in done.stderr) is is_export
