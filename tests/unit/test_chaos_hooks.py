"""The judge of webhooks finds each broken promise."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.history import Commit
from tests.chaos.hooks import complaints

TENANT = "t1"
COMMITS = {TENANT: [Commit(f"sha{n}", f"b{n}") for n in range(4)]}


def row(number: int, *, taken: bool = True, **values: Any) -> dict[str, Any]:
    good = {
        "id": f"id{number}",
        "taken": taken,
        "type": "backup.committed",
        "tenant_id": TENANT,
        "backup_id": f"b{number}",
        "sha": f"sha{number}",
        "bytes": 900,
    }
    return {**good, **values}


def test_repetitions_with_the_same_id_are_no_complaint() -> None:
    rows = [row(0), row(1, taken=False), row(1), row(1), row(2), row(1), row(3)]
    assert complaints(rows, COMMITS) == []


BROKEN: dict[str, tuple[list[dict[str, Any]], str]] = {
    "missing": ([row(0), row(1), row(2)], "missing 1 of 4: b3"),
    "never taken": ([row(0), row(1), row(2, taken=False), row(3)], "missing 1 of 4: b2"),
    "out of order": ([row(0), row(2), row(1), row(3)], "out of order: b2, b1"),
    "another id": ([row(0), row(0, id="x"), row(1), row(2), row(3)], "another id"),
    "one id for two": ([row(0), row(1, id="id0"), row(2), row(3)], "one id for two"),
    "another commit": ([row(0), row(1, sha="x"), row(2), row(3)], "wrong commit: id1"),
    "never committed": ([row(0), row(1), row(2), row(3), row(9)], "out of order: b9"),
    "forged": ([{"id": "x", "taken": True, "forged": "no"}, *map(row, range(4))], "wrong signature"),
    "large": ([row(0, bytes=20_001), row(1), row(2), row(3)], "too large: id0"),
    "another type": ([row(0, type="x"), row(1), row(2), row(3)], "another type: id0"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_found(what: str) -> None:
    rows, complaint = BROKEN[what]
    assert complaint in " ".join(complaints(rows, COMMITS))
