"""The search for secrets finds them: without this, the searches of the whole run would say nothing."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest

from tests.planted import SECRET, assert_no_secrets, assert_nothing_repeated
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

EXPORT = b"/ip address\nadd address=10.20.30.40/24 interface=ether7\n"
BINARY = bytes(range(136, 176))
MESSAGE = "poll of the router in the cellar"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log-of-the-control"


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{SECRET}@host",
        json.dumps({"url": SECRET}),
        base64.b64encode(f"password={SECRET}".encode()).decode(),
        base64.b64encode(f"a password={SECRET}!".encode()).decode(),
        base64.b64encode(f"the password={SECRET}..".encode()).decode(),
        SECRET.encode().hex(),
    ],
)
def test_a_planted_secret_is_found(log: Path, text: str) -> None:
    log.write_text(f"2026-11-24 [info] something {text}\n")
    with pytest.raises(AssertionError, match="repeats"):
        assert_no_secrets([log])


@pytest.mark.parametrize(
    "text",
    [
        "add address=10.20.30.40/24 interface=ether7",
        repr(EXPORT),
        repr(BINARY),
        base64.b64encode(EXPORT).decode(),
        base64.b64encode(BINARY).decode(),
        f"message={MESSAGE!r}",
    ],
)
def test_what_a_repository_keeps_is_found(tmp_path: Path, log: Path, text: str) -> None:
    store = tmp_path / "store"
    backup = Backup(str(uuid.uuid4()), str(uuid.uuid4()), EXPORT, BINARY, MESSAGE, captured_at=None)
    Writer(create_repository(store / "tenant.git")).commit_backups([backup])
    log.write_text("2026-11-24 [info] committed a batch [confkeep.drain] backups=1\n")
    assert_nothing_repeated([log], store)
    log.write_text(f"2026-11-24 [info] something {text}\n")
    with pytest.raises(AssertionError, match="repeats"):
        assert_nothing_repeated([log], store)
