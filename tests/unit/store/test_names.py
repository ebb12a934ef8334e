"""No id, file name or commit id reaches outside its own place; the only error is the declared one."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confkeep.errors import InvalidId, NotInStore
from tests.judge import git
from worker.store.repository import reader
from worker.store.repository.backup import (
    Backup,
    checked_commit_id,
    checked_file_name,
    checked_uuid,
)
from worker.store.repository.tenant_repository import (
    create_repository,
    open_repository,
    repository_path,
    tenants_of,
)
from worker.store.writing.commit import Writer

TENANT = "5f6e1f2a-5a0e-4c06-8a53-2f3a1e6f0001"
OTHER_TENANT = "5f6e1f2a-5a0e-4c06-8a53-2f3a1e6f0002"
DEVICE = "8d3c7a52-9a3f-4e8e-9b1d-00c0ffee0001"

NOT_UUIDS = [
    "",
    ".",
    "..",
    "../" + TENANT,
    TENANT + "/..",
    TENANT + "/../" + OTHER_TENANT,
    TENANT + ".git",
    "/" + TENANT,
    "/etc/passwd",
    "C:\\" + TENANT,
    TENANT + "\0",
    "\0" + TENANT[1:],
    TENANT + "\n",
    " " + TENANT,
    TENANT + " ",
    "{" + TENANT + "}",
    "urn:uuid:" + TENANT,
    TENANT.replace("-", "", 1),
    TENANT.replace("-", "\N{NON-BREAKING HYPHEN}"),
    TENANT.replace("-", "\N{EN DASH}"),
    TENANT.replace("5", "\N{ARABIC-INDIC DIGIT FIVE}"),
    TENANT.replace("5", "\N{FULLWIDTH DIGIT FIVE}"),
    TENANT.replace("a", "\N{CYRILLIC SMALL LETTER A}"),
    TENANT.replace("e", "\N{FULLWIDTH LATIN SMALL LETTER E}"),
    TENANT.replace("-", "_"),
    TENANT[:-1],
    TENANT + "0",
    "%2e%2e",
    "main",
    "refs/heads/main",
]

NOT_COMMIT_IDS = [
    "",
    "abc",
    "main",
    "HEAD",
    "main^{tree}",
    "main~1",
    "HEAD^{}",
    "@",
    "@{-1}",
    ":/poll",
    "refs/heads/main",
    "main:export.rsc",
    "a..b",
    "abcd^{tree}",
    "abcd~1",
    "abcd\n",
    " abcd",
    "\0abcd",
    "-abcd",
    "0" * 41,
    "0" * 64,
    "\N{FULLWIDTH DIGIT ONE}234",
    "\N{ARABIC-INDIC DIGIT ONE}234",
    "../../HEAD",
]

NOT_FILE_NAMES = [
    "",
    ".",
    "..",
    "../export.rsc",
    "/export.rsc",
    "./export.rsc",
    "export.rsc/",
    "export.rsc\0",
    "EXPORT.RSC",
    "export\N{ONE DOT LEADER}rsc",
    "export.rs\N{CYRILLIC SMALL LETTER ES}",
    f"../{DEVICE}/export.rsc",
    "HEAD",
]


@pytest.mark.parametrize("value", NOT_UUIDS)
def test_only_plain_uuids_name_tenants_and_devices(store: Path, value: str) -> None:
    with pytest.raises(InvalidId):
        checked_uuid("device_id", value)
    with pytest.raises(InvalidId) as caught:
        repository_path(store, value)
    assert caught.value.field == "tenant_id"
    # The message names the field and never repeats what came from outside.
    assert not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize("value", [None, 7, b"5f6e1f2a-5a0e-4c06-8a53-2f3a1e6f0001", [], object()])
def test_values_of_other_types_are_no_ids(value: object) -> None:
    for check in (lambda v: checked_uuid("device_id", v), checked_commit_id, checked_file_name):
        with pytest.raises(InvalidId):
            check(value)


def test_a_uuid_has_one_spelling(store: Path) -> None:
    assert checked_uuid("tenant_id", TENANT.upper()) == TENANT
    assert checked_uuid("tenant_id", uuid.UUID(TENANT)) == TENANT
    assert repository_path(store, TENANT.upper()) == repository_path(store, TENANT)


@given(st.text())
def test_any_text_is_an_id_or_the_declared_error(text: str) -> None:
    for check in (lambda v: checked_uuid("device_id", v), checked_commit_id, checked_file_name):
        try:
            accepted = check(text)
        except InvalidId:
            continue
        assert accepted.isascii()
        assert not set(accepted) & set("/\\\0\n ")


def _two_tenants(store: Path) -> tuple[str, str]:
    """Commit ids of two tenants that have the same device."""
    shas = []
    for tenant in (TENANT, OTHER_TENANT):
        repository = create_repository(repository_path(store, tenant))
        backup = Backup(str(uuid.uuid4()), DEVICE, f"of {tenant}\n".encode(), b"\1", "poll")
        shas.append(Writer(repository).commit_backups([backup])[0].sha)
    return shas[0], shas[1]


@pytest.mark.parametrize("value", NOT_COMMIT_IDS)
def test_only_hexadecimal_commit_ids_are_looked_up(store: Path, value: str) -> None:
    _two_tenants(store)
    repository = open_repository(repository_path(store, TENANT))
    with pytest.raises(InvalidId) as caught:
        reader.read_file(repository, value, DEVICE, "export.rsc")
    assert caught.value.field == "commit_sha"


@pytest.mark.parametrize("value", NOT_FILE_NAMES)
def test_only_the_two_file_names_are_read(store: Path, value: str) -> None:
    sha, _ = _two_tenants(store)
    repository = open_repository(repository_path(store, TENANT))
    with pytest.raises(InvalidId) as caught:
        reader.read_file(repository, sha, DEVICE, value)
    assert caught.value.field == "filename"


def test_ids_of_trees_blobs_and_tags_are_no_commits(store: Path) -> None:
    sha, _ = _two_tenants(store)
    path = repository_path(store, TENANT)
    git(path, "tag", "-a", "-m", "a tag", "named", sha)
    repository = open_repository(path)
    for expression in ("main^{tree}", f"main:{DEVICE}", f"main:{DEVICE}/export.rsc", "named"):
        other = git(path, "rev-parse", expression).decode().strip()
        with pytest.raises(NotInStore):
            reader.read_file(repository, other, DEVICE, "export.rsc")


def test_a_tenant_cannot_read_another_tenants_commit(store: Path) -> None:
    mine, theirs = _two_tenants(store)
    repository = open_repository(repository_path(store, TENANT))
    assert reader.read_file(repository, mine, DEVICE, "export.rsc") == f"of {TENANT}\n".encode()
    with pytest.raises(NotInStore):
        reader.read_file(repository, theirs, DEVICE, "export.rsc")
    with pytest.raises(NotInStore):
        reader.read_file(repository, mine, OTHER_TENANT, "export.rsc")


def test_reading_never_creates_anything(store: Path) -> None:
    path = repository_path(store, TENANT)
    with pytest.raises(NotInStore):
        open_repository(path)
    assert os.listdir(store) == []


def test_only_repositories_of_tenants_are_listed(store: Path) -> None:
    _two_tenants(store)
    for name in ("notes.git", TENANT, f"{TENANT}.git.old", f"{TENANT[:-1]}.git"):
        (store / name).mkdir()
    try:
        assert tenants_of(store) == [TENANT, OTHER_TENANT]
        assert tenants_of(store / "absent") == []
    finally:
        for name in ("notes.git", f"{TENANT[:-1]}.git"):
            (store / name).rmdir()
