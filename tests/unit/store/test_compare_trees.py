"""Two root trees are compared entry by entry, and by bytes where one entry differs."""

from __future__ import annotations

import random

import pytest

from tests.histories import device_ids
from worker.store.history import index_build
from worker.store.history.index_build import Difference, compare_trees, is_uniform

Entries = dict[str, bytes]


def tree_of(entries: Entries) -> bytes:
    return b"".join(b"40000 %s\0%s" % (name.encode(), entries[name]) for name in sorted(entries))


def differences(one: Entries, other: Entries) -> list[Difference]:
    return [
        (
            name.encode(),
            b"40000" + one[name] if name in one else None,
            b"40000" + other[name] if name in other else None,
        )
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def edited(entries: Entries, rng: random.Random, names: list[str], edits: int) -> Entries:
    """With some entries changed, added or removed."""
    made = dict(entries)
    for name in rng.sample(names, edits):
        if name in made and rng.random() < 0.4:
            del made[name]
        else:
            made[name] = rng.randbytes(20)
    return made


@pytest.mark.parametrize("edits", [0, 1, 2, 3])
def test_by_bytes_or_not_the_differences_are_the_same(edits: int) -> None:
    rng = random.Random(edits)
    for size in range(7):
        for seed in range(60):
            names = device_ids(size + 4, seed)
            one = {name: rng.randbytes(20) for name in names[:size]}
            other = edited(one, rng, names, edits)
            for uniform in (True, False):
                found, then = compare_trees(tree_of(one), tree_of(other), uniform)
                assert found == differences(one, other)
                assert then == is_uniform(tree_of(other)) or not uniform


def test_one_entry_that_differs_is_found_without_taking_trees_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tenant's first backups add a device each: to take both trees apart grows with its square."""

    def refuse(tree: bytes) -> dict[bytes, bytes]:
        raise AssertionError(f"{len(tree)} bytes are taken apart")

    monkeypatch.setattr(index_build, "entries_of", refuse)
    rng = random.Random(1)
    names = device_ids(30)
    less = {name: rng.randbytes(20) for name in names[1:]}
    for name in names:
        more = {**less, name: rng.randbytes(20)}
        for one, other in ((less, more), (more, less)):
            found = compare_trees(tree_of(one), tree_of(other), uniform=True)
            assert found == (differences(one, other), True)
