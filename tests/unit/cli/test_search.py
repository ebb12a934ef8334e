"""`confkeep search` finds the lines, with numbers and sections, and answers as grep does."""

from __future__ import annotations

import json

import pytest

from tests.judge import git
from tests.unit.cli.conftest import TENANT, Confkeep, Store
from worker.store.repository.tenant_repository import repository_path

CORE = "cafe0001-0000-4000-8000-000000000001"
EDGE = "beef0002-0000-4000-8000-000000000002"
FIRST = b"/ip address\nadd address=10.0.0.1/24\n/ip service\nset telnet disabled=yes\n"
LATER = b"/ip address\r\nadd address=10.0.0.2/24\r\n/ip service\r\nset telnet disabled=no\r\n"


@pytest.fixture
def searched(store: Store) -> Store:
    store.add(CORE, FIRST)
    store.add(CORE, LATER)
    store.add(EDGE, FIRST + b"/system identity\nset name=edge1\n")
    return store


def found(confkeep: Confkeep, *arguments: str) -> list[tuple[str, int, str | None, str]]:
    done = confkeep("search", *arguments, "--json")
    assert done.exit_code in (0, 1), done.stderr
    return [
        (device["name"] or "core", match["line"], match["section"], match["text"])
        for tenant in json.loads(done.stdout)["tenants"]
        for device in tenant["devices"]
        for match in device["matches"]
    ]


def test_lines_with_device_number_and_section(searched: Store, confkeep: Confkeep) -> None:
    assert found(confkeep, "telnet") == [
        ("edge1", 4, "/ip service", "set telnet disabled=yes"),
        ("core", 4, "/ip service", "set telnet disabled=no"),
    ]
    assert found(confkeep, "10.0.0.1/24", TENANT) == [
        ("edge1", 2, "/ip address", "add address=10.0.0.1/24")
    ]
    assert found(confkeep, "-e", r"^set .*=(no|yes)\r?$") == found(confkeep, "telnet")
    assert found(confkeep, "-i", "TELNET") == found(confkeep, "telnet")
    assert found(confkeep, "TELNET") == found(confkeep, "10x0") == []
    assert found(confkeep, "-e", "address$") == [
        ("edge1", 1, "/ip address", "/ip address"),
    ]


def test_a_pattern_is_of_one_line(searched: Store, confkeep: Confkeep) -> None:
    assert found(confkeep, "-e", r"address\s+add") == []
    assert found(confkeep, "-e", "^$") == [], "there is no line behind the last one"


def test_two_matches_in_a_line_are_one(searched: Store, confkeep: Confkeep) -> None:
    assert len(found(confkeep, "-e", "d")) == 5 + 3


def test_context_and_names(searched: Store, confkeep: Confkeep) -> None:
    done = json.loads(confkeep("search", "edge1", "-C", "2", "--json").stdout)
    [match] = done["tenants"][0]["devices"][0]["matches"]
    assert match["before"] == ["set telnet disabled=yes", "/system identity"]
    assert match["after"] == []
    names = confkeep("search", "telnet", "-l")
    assert names.stdout.splitlines() == ["edge1 (beef0002)", CORE]
    plain = confkeep("search", "edge1")
    assert plain.stdout == "edge1 (beef0002):6:/system identity: set name=edge1\n"


def test_as_it_was_and_in_all_versions(searched: Store, confkeep: Confkeep) -> None:
    assert found(confkeep, "10.0.0.1/24", "--at", "2026-09-30T11:30") == [
        ("core", 2, "/ip address", "add address=10.0.0.1/24")
    ]
    done = json.loads(confkeep("search", "10.0.0.1/24", "--history", "--json").stdout)
    spans = {device["device_id"]: device for device in done["tenants"][0]["devices"]}
    assert spans[CORE]["first"] == spans[CORE]["last"] == "2026-09-30T11:00:00Z"
    assert (spans[CORE]["still"], spans[EDGE]["still"]) == (False, True)
    assert "last now" in confkeep("search", "10.0.0.1/24", "--history").stdout


def test_status_and_errors(searched: Store, confkeep: Confkeep) -> None:
    assert confkeep("search", "telnet").exit_code == 0
    assert confkeep("search", "nowhere").exit_code == 1
    wrong = confkeep("search", "-e", "(a")
    assert wrong.exit_code == 2
    assert "is no regular expression of re2: missing )" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert confkeep("search", "").exit_code == 2


def test_no_flipped_bit_of_an_export_changes_an_answer(searched: Store, confkeep: Confkeep) -> None:
    path = repository_path(searched.path, TENANT)
    # Each backup came alone, with a pack of its own.
    [pack, start, size] = next(
        (pack, int(place[4]), int(place[3]))
        for pack in (path / "objects" / "pack").glob("*.pack")
        for line in git(path, "verify-pack", "-v", str(pack.with_suffix(".idx"))).splitlines()
        if (place := line.split())[1:2] == [b"blob"]
        and b"edge1" in git(path, "cat-file", "-p", place[0].decode())
    )
    whole = pack.read_bytes()
    pack.chmod(0o600)
    right = confkeep("search", "telnet", "--json").stdout
    noticed = 0
    for bit in range(start * 8, (start + size) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        pack.write_bytes(damaged)
        done = confkeep("search", "telnet", "--json")
        if done.exit_code:
            noticed += 1
        else:
            assert done.stdout == right
    pack.write_bytes(whole)
    assert noticed > size * 7
