"""The root tree that is spliced in place, against one that is built anew each time."""

from __future__ import annotations

import uuid
import zlib

import pytest
from dulwich.pack import apply_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.store.git import pack
from worker.store.git.pack import TreeEntry
from worker.store.git.root_tree import RootTree

NAMES = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))).encode() for number in range(12)]

#: Entries that are no devices, some of which sort between a device's name and name + "/".
OTHERS = [
    TreeEntry(b"100644", b"README", b"r" * 20),
    TreeEntry(b"100644", NAMES[3] + b".txt", b"t" * 20),
    TreeEntry(b"40000", NAMES[3] + b"-old", b"o" * 20),
    TreeEntry(b"120000", b"x40000 " + NAMES[5], b"l" * 20),
    TreeEntry(b"40000", b"zone", b"\0" * 20),
]

_steps = st.lists(st.tuples(st.sampled_from(NAMES), st.binary(min_size=20, max_size=20)))


def _folders(names: set[bytes]) -> list[TreeEntry]:
    return [TreeEntry(b"40000", name, name[:20]) for name in names]


@given(
    st.sets(st.sampled_from(NAMES)),
    st.sets(st.sampled_from(OTHERS)),
    _steps,
    st.integers(1, 20),
)
@settings(max_examples=200)
def test_each_tree_and_what_is_stored_of_it_is_that_of_git(
    present: set[bytes], others: set[TreeEntry], steps: list[tuple[bytes, bytes]], per_pack: int
) -> None:
    model = {entry.name: entry for entry in (*_folders(present), *others)}
    root = RootTree(pack.encode_tree(model.values()))
    stored: dict[bytes, tuple[bytes, int]] = {}
    for number, (name, id_) in enumerate(steps):
        if number % per_pack == 0:
            root.begin_pack()
            stored = {}
        before = model.get(name)
        assert root.find(name) == (None if before is None else before.id)
        root.put(name, id_)
        model[name] = TreeEntry(b"40000", name, id_)
        expected = pack.encode_tree(model.values())
        assert root.id() == pack.object_id(pack.TREE, expected)
        if root.id() in stored:
            continue
        item = root.to_store(root.id())
        if item.base_id is None:
            assert bytes(item.data) == expected
            stored[item.id] = expected, 0
        else:
            base, depth = stored[item.base_id]
            assert b"".join(apply_delta(base, bytes(item.data))) == expected
            assert depth + 1 <= 5
            stored[item.id] = expected, depth + 1


def test_only_the_first_tree_of_a_pack_is_whole() -> None:
    root = RootTree(pack.encode_tree(_folders(set(NAMES))))
    whole = 0
    for number in range(200):
        root.put(NAMES[number % 12], number.to_bytes(20, "big"))
        item = root.to_store(root.id())
        whole += item.base_id is None
    assert whole == 1


@pytest.mark.parametrize("mode", [b"100644", b"120000"])
def test_a_file_in_a_devices_place_gives_way_to_its_folder(mode: bytes) -> None:
    file = TreeEntry(mode, NAMES[4], b"f" * 20)
    root = RootTree(pack.encode_tree([*_folders({NAMES[0], NAMES[8]}), file]))
    root.put(NAMES[0], b"1" * 20)
    root.to_store(root.id())
    assert root.find(NAMES[4]) is None
    root.put(NAMES[4], b"2" * 20)
    expected = pack.encode_tree(
        [
            TreeEntry(b"40000", NAMES[0], b"1" * 20),
            TreeEntry(b"40000", NAMES[4], b"2" * 20),
            *_folders({NAMES[8]}),
        ]
    )
    assert bytes(root.to_store(root.id()).data) == expected


def test_checkpoints_of_a_large_tree_keep_the_hash_right() -> None:
    names = sorted(str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))).encode() for n in range(2_000))
    model = {name: TreeEntry(b"40000", name, name[:20]) for name in names[::2]}
    root = RootTree(pack.encode_tree(model.values()))
    for number, name in enumerate([*names[-3:], *names[:3], *names[900:905], *names[-3:]]):
        root.put(name, bytes([number]) * 20)
        model[name] = TreeEntry(b"40000", name, bytes([number]) * 20)
        assert root.id() == pack.object_id(pack.TREE, pack.encode_tree(model.values()))


def test_a_large_tree_is_deflated_in_parts_of_which_only_the_changed_are_made_anew() -> None:
    names = sorted(str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))).encode() for n in range(4_000))
    new = names.pop(2_000)
    model = {name: TreeEntry(b"40000", name, name[:20]) for name in names}
    root = RootTree(pack.encode_tree(model.values()))
    before: list[bytes | memoryview] = []
    # The id of the entry 3,120 lies across the border of two parts.
    for name, most_new in [(names[7], 8), (names[3_120], 2), (names[-1], 1), (new, 5), (new, 1)]:
        root.begin_pack()
        root.put(name, name[5:25])
        model[name] = TreeEntry(b"40000", name, name[5:25])
        item = root.to_store(root.id())
        assert item.deflated is not None
        assert zlib.decompress(b"".join(item.deflated)) == pack.encode_tree(model.values())
        made = [part for part in item.deflated[1:-1] if not any(part is old for old in before)]
        assert len(made) <= most_new
        before = list(item.deflated)


@pytest.mark.parametrize(
    "data",
    [b"garbage", b"40000 b\0" + b"1" * 20 + b"40000 a\0" + b"1" * 20, b"40000 a\0short"],
)
def test_what_is_no_tree_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a tree"):
        RootTree(data)
