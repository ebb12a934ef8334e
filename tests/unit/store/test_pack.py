"""The pack, idx, delta and tree encoders, judged by git and dulwich."""

from __future__ import annotations

import random
import subprocess
import zlib
from pathlib import Path

import pytest
from dulwich.pack import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from tests.judge import GIT_ENVIRONMENT, git
from worker.store.git import pack
from worker.store.git.pack import Edit, IdxEntry, PackEncoder, PackObject

CHANCE = random.Random(1)

#: Of each kind of bytes, sizes on both sides of where the encoder takes another way.
DATA = [
    b"",
    b"x",
    CHANCE.randbytes(96),
    CHANCE.randbytes(97),
    b"/ip address add\n" * 1200,
    CHANCE.randbytes(8 * 1024 + 1),
    CHANCE.randbytes(65_535),
    CHANCE.randbytes(65_536),
    CHANCE.randbytes(3 * pack.PIECE_BYTES + 5),
    b"/system identity\n" * 200_000,
    # Random at the places that are sampled, and nowhere else.
    CHANCE.randbytes(1024) + bytes(30_000) + CHANCE.randbytes(1024),
]


def _blob(data: bytes) -> PackObject:
    return PackObject(pack.BLOB, pack.object_id(pack.BLOB, data), data)


def _index(pack_bytes: bytes, where: Path) -> bytes:
    """The idx that git makes of a pack."""
    git(where, "init", "-q", "--bare", "judge.git")
    file = where / "judge.git" / "objects" / "pack" / "pack-1.pack"
    file.write_bytes(pack_bytes)
    git(where / "judge.git", "index-pack", "--strict", str(file))
    return file.with_suffix(".idx").read_bytes()


def test_git_reads_the_pack_and_makes_the_very_same_idx(tmp_path: Path) -> None:
    objects = [_blob(data) for data in DATA]
    base = b"the base of a delta " * 30
    objects.append(_blob(base))
    edited = base[:100] + b"inserted" + base[120:]
    delta = pack.encode_delta(len(base), [Edit(100, 20, b"inserted")])
    objects.append(
        PackObject(
            pack.BLOB, pack.object_id(pack.BLOB, edited), delta, pack.object_id(pack.BLOB, base)
        )
    )
    encoder = PackEncoder(objects)
    pack_bytes = b"".join(encoder)
    assert _index(pack_bytes, tmp_path) == encoder.idx()
    for data in [*DATA, edited]:
        sha = pack.object_id(pack.BLOB, data).hex()
        assert git(tmp_path / "judge.git", "cat-file", "blob", sha) == data


@pytest.mark.parametrize("data", DATA)
def test_what_is_deflated_comes_back(data: bytes) -> None:
    assert zlib.decompress(b"".join(pack.deflate(data))) == data


def test_random_bytes_are_stored_and_others_are_not() -> None:
    encrypted, text = CHANCE.randbytes(50_000), b"/ip address add\n" * 3000
    assert len(list(pack.deflate(encrypted))) > 1
    assert len(b"".join(pack.deflate(text))) < len(text) / 20


def test_offsets_beyond_2_gib_are_as_git_reads_them() -> None:
    entries = [
        IdxEntry(bytes([number]) * 20, number, offset)
        for number, offset in enumerate((12, 2**31 - 1, 2**31, 2**40))
    ]
    idx = pack.encode_idx(reversed(entries), bytes(20))
    shown = subprocess.run(
        ["git", "show-index"], input=idx, capture_output=True, check=True, env=GIT_ENVIRONMENT
    ).stdout.decode()
    assert [line.split()[:2] for line in shown.splitlines()] == [
        [str(entry.offset), entry.id.hex()] for entry in entries
    ]


def test_an_idx_knows_what_it_holds() -> None:
    ids = [CHANCE.randbytes(20) for _ in range(300)]
    idx = pack.encode_idx([IdxEntry(id_, 0, 12) for id_ in ids[:200]], bytes(20))
    assert all(pack.idx_holds_any(idx, [id_]) for id_ in ids[:200])
    assert not any(pack.idx_holds_any(idx, [id_]) for id_ in ids[200:])
    assert pack.idx_holds_any(idx, [ids[250], ids[3]])
    assert not pack.idx_holds_any(idx, [])


@given(
    st.binary(max_size=300),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 30), st.binary(min_size=1, max_size=127)),
        max_size=6,
    ),
)
def test_a_delta_turns_the_base_into_the_edited(
    base: bytes, moves: list[tuple[int, int, bytes]]
) -> None:
    edits, position, expected = [], 0, b""
    for skip, removed, inserted in moves:
        if position + skip + removed > len(base):
            break
        edits.append(Edit(position + skip, removed, inserted))
        expected += base[position : position + skip] + inserted
        position += skip + removed
    expected += base[position:]
    assert b"".join(apply_delta(base, pack.encode_delta(len(base), edits))) == expected


def test_a_delta_copies_runs_longer_than_one_instruction_names() -> None:
    base = bytes(40 * 1024 * 1024)
    delta = pack.encode_delta(len(base), [Edit(35 * 1024 * 1024, 1, b"x")])
    result = b"".join(apply_delta(base, delta))
    assert len(result) == len(base)
    assert result.index(b"x") == 35 * 1024 * 1024


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: b"40000 a\0" + data))
def test_what_is_no_tree_is_a_value_error(data: bytes) -> None:
    try:
        entries = pack.parse_tree(data)
    except ValueError:
        return
    assert b"".join(b"%s %s\0%s" % (e.mode, e.name, e.id) for e in entries) == data
