"""A tenant's own rules: what was set, or an error; never other rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from confkeep.errors import SideFileDamaged
from tests.damage import flipped
from tests.unit.store.test_id_map import kinds
from worker.store.repository.tenant_repository import create_repository
from worker.store.rewriting.retention_file import RULES_NAME, load_rules, save_rules
from worker.store.upkeep.verify_report import Kind

RULES = {"keep_last": 3, "keep_daily": 31, "binary_keep_days": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a repository is to be that nobody judges at the end."""
    return tmp_path / "a.git"


@pytest.mark.parametrize(
    "text",
    [
        '{"keep_last": 0}',
        '{"keep_last": true}',
        '{"keep_it": 1}',
        "[]",
        "",
        "{",
        "[" * 100_000,
        '{"keep_days": 1.5}',
        '{"keep_last": 3, "checksum": 5}',
    ],
)
def test_a_file_of_rules_that_makes_no_sense_removes_nothing(path: Path, text: str) -> None:
    create_repository(path)
    save_rules(path, RULES)
    assert load_rules(path) == RULES
    (path / RULES_NAME).write_text(text)
    with pytest.raises(SideFileDamaged):
        load_rules(path)
    assert kinds(path) == {Kind.RULES}


def test_no_flipped_bit_makes_other_rules(path: Path) -> None:
    create_repository(path)
    save_rules(path, RULES)
    sound, told = (path / RULES_NAME).read_bytes(), 0
    for bit in range(8 * len(sound)):
        (path / RULES_NAME).write_bytes(flipped(sound, bit))
        try:
            assert load_rules(path) == RULES, f"bit {bit}"
        except SideFileDamaged:
            told += 1
    assert told > 6 * len(sound)


def test_rules_of_the_first_release_are_read_and_get_a_checksum(path: Path) -> None:
    create_repository(path)
    (path / RULES_NAME).write_text(json.dumps({"keep_last": 7}))
    assert load_rules(path) == {"keep_last": 7}
    assert kinds(path) == set()
    save_rules(path, load_rules(path))
    assert "checksum" in json.loads((path / RULES_NAME).read_text())
    assert load_rules(path) == {"keep_last": 7}
