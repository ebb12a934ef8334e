"""Repacks look for deltas between binaries only where there can be some."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.judge import assert_sound, git
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.upkeep import binary_deltas
from worker.store.upkeep.repack import repack
from worker.store.writing.commit import Writer

_RANDOM = random.Random(5)
_BYTES = 20_000
_SAME = _RANDOM.randbytes(_BYTES)

#: A device's binary at its n-th capture.
Binary = Callable[[int], bytes | None]


def _encrypted(_number: int) -> bytes:
    return _RANDOM.randbytes(_BYTES)


def _plain(number: int) -> bytes:
    return b"\n".join(b"user-%d=%d" % (line, line % 7) for line in range(2_000)) + b"%d" % number


def _of_one_key(number: int) -> bytes:
    """As encrypted by a key without a salt: the same up to the first byte that changed."""
    return _SAME[: _BYTES * 3 // 4] + _RANDOM.randbytes(_BYTES // 4 + number)


def _large(_number: int) -> bytes:
    return _RANDOM.randbytes((1 << 20) + 1)


def _none(_number: int) -> None:
    return None


def _fill(path: Path, *devices: Binary, captures: int = 3) -> None:
    writer = Writer(create_repository(path))
    for number in range(captures):
        for place, binary in enumerate(devices):
            capture = Backup(
                backup_id=str(uuid.uuid4()),
                device_id=f"{place:08}-0000-4000-8000-000000000000",
                export=b"/system identity\nset name=%d-%d\n" % (place, number),
                binary=binary(number),
                message="capture",
            )
            writer.commit_backups([capture])
    writer.close()


def _deltas(path: Path) -> list[int]:
    """The sizes of the blobs that are stored as deltas, by what git says."""
    form = "%(objecttype) %(objectsize) %(deltabase)"
    said = (
        git(path, "cat-file", "--batch-all-objects", f"--batch-check={form}").decode().splitlines()
    )
    found = [line.split() for line in said]
    return [int(size) for kind, size, base in found if kind == "blob" and set(base) != {"0"}]


@pytest.mark.parametrize("full", [False, True])
def test_git_does_not_compare_what_is_encrypted(tmp_path: Path, full: bool) -> None:
    path = tmp_path / "a.git"
    twin = _RANDOM.randbytes(_BYTES)
    # Beside each other git would find these two: that it does not shows that it did not look.
    _fill(path, _encrypted, _encrypted, lambda n: twin + b"x" if n == 2 else _encrypted(n))
    _fill(path, _encrypted, lambda n: twin if n == 0 else _encrypted(n), captures=2)
    repack(path, full=full)
    assert [size for size in _deltas(path) if size >= _BYTES] == []
    assert_sound(path)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("binary", [_plain, _of_one_key])
def test_what_has_something_in_common_is_stored_as_deltas(
    tmp_path: Path, binary: Binary, full: bool
) -> None:
    path = tmp_path / "a.git"
    _fill(path, _encrypted, binary)
    repack(path, full=full)
    assert len([size for size in _deltas(path) if size >= _BYTES]) == 2
    assert_sound(path)


@pytest.mark.parametrize(
    ("devices", "compares"),
    [
        ([_encrypted], False),
        ([_encrypted, _none], False),
        ([_encrypted, _plain], True),
        ([_of_one_key], True),
        ([_large], True),
        ([_none], True),
        ([], True),
    ],
)
@pytest.mark.parametrize("captures", [1, 2])
def test_one_device_that_gains_is_enough(
    tmp_path: Path, devices: list[Binary], compares: bool, captures: int
) -> None:
    path = tmp_path / "a.git"
    _fill(path, *devices, captures=captures)
    if (devices, captures) == ([_of_one_key], 1):
        compares = False  # nothing tells yet
    assert (binary_deltas.options(path) == ()) is compares


def test_a_full_repack_sees_the_few_that_gain(tmp_path: Path) -> None:
    path = tmp_path / "a.git"
    _fill(path, _plain, *[_encrypted] * 8, captures=2)
    repack(path, full=False)
    assert [size for size in _deltas(path) if size >= _BYTES] == []
    repack(path, full=True)
    assert len([size for size in _deltas(path) if size >= _BYTES]) == 1


def test_a_repository_that_cannot_be_read_is_left_to_git(tmp_path: Path) -> None:
    path = tmp_path / "a.git"
    _fill(path, _encrypted)
    (path / "refs" / "heads" / "main").write_text("1" * 40 + "\n")
    assert binary_deltas.options(path) == ()
