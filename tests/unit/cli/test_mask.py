"""`--mask` of show, diff and search: nothing that they print tells a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import ROUTER, SWITCH, TENANT, Confkeep, Store

FIRST = b"/ppp secret\nadd name=a password=hunter-one service=l2tp\nadd name=b password=same-word\n"
LATER = FIRST.replace(b"hunter-one", b"hunter-two")


@pytest.fixture
def secretive(store: Store) -> Store:
    store.add(ROUTER, FIRST)
    store.add(SWITCH, FIRST.replace(b"hunter-one", b"hunter-two"))
    store.add(ROUTER, LATER)
    return store


def test_show_prints_the_lines_without_secrets(secretive: Store, confkeep: Confkeep) -> None:
    done = confkeep("show", TENANT, ROUTER, "--mask")
    assert done.stdout == (
        "/ppp secret\nadd name=a password=*** service=l2tp\nadd name=b password=***\n"
    )
    assert "hunter-two" in confkeep("show", TENANT, ROUTER).stdout


def test_show_writes_a_masked_file(secretive: Store, confkeep: Confkeep, tmp_path: Path) -> None:
    file = tmp_path / "shown.rsc"
    assert confkeep("show", TENANT, ROUTER, "--mask", "-o", str(file)).exit_code == 0
    assert b"password=***" in file.read_bytes()


def test_show_masks_no_binary(secretive: Store, confkeep: Confkeep) -> None:
    done = confkeep("show", TENANT, ROUTER, "--mask", "--binary")
    assert done.exit_code == 2
    assert "--mask is for exports" in done.stderr


def test_diff_tells_which_secret_changed(secretive: Store, confkeep: Confkeep) -> None:
    lines = confkeep("diff", TENANT, ROUTER, "--mask").stdout.splitlines()
    assert "-add name=a password=*** service=l2tp" in lines
    assert "+add name=a password=*** (changed) service=l2tp" in lines
    assert " add name=b password=***" in lines


def test_diff_does_not_tell_whether_two_devices_share_a_secret(
    secretive: Store, confkeep: Confkeep
) -> None:
    secretive.add(ROUTER, FIRST)
    other = confkeep("diff", TENANT, ROUTER, "--with", SWITCH, "--mask")
    assert "export.rsc: no difference" in other.stdout
    assert "hunter" not in other.stdout
    secretive.add(ROUTER, LATER)
    same = confkeep("diff", TENANT, ROUTER, "--with", SWITCH, "--mask")
    assert same.stdout == other.stdout


@pytest.mark.parametrize("history", [(), ("--history",), ("--at", "2030-01-01")])
def test_search_finds_no_secret(
    secretive: Store, confkeep: Confkeep, history: tuple[str, ...]
) -> None:
    assert confkeep("search", "hunter-", *history).exit_code == 0
    assert confkeep("search", "hunter-", "--mask", *history).exit_code == 1
    assert confkeep("search", "-e", "password=[h-z]", "--mask", *history).exit_code == 1
    assert confkeep("search", "name=a", "--mask", *history).exit_code == 0


def test_search_shows_no_secret_around_a_match(secretive: Store, confkeep: Confkeep) -> None:
    done = json.loads(confkeep("search", "name=b", "--mask", "-C", "3", "--json").stdout)
    assert "hunter" not in json.dumps(done)
    assert done["tenants"][0]["devices"][0]["matches"][0]["line"] == 3
