"""Many files at once come as single ones do: in order, none for none, and no damaged one."""

from __future__ import annotations

import os
import uuid
from itertools import islice
from pathlib import Path

import pytest

from confkeep.errors import RepositoryDamaged
from tests.damage import flip, offset_at
from tests.histories import device_ids
from tests.judge import git
from worker.store.repository.backup import EXPORT_NAME, Backup
from worker.store.repository.many import Place, read_many
from worker.store.repository.tenant_repository import open_repository
from worker.store.writing.commit import open_for_writing

DEVICES = device_ids(60)


def written(store: Path) -> tuple[Path, str]:
    path = store / f"{uuid.uuid4()}.git"
    with open_for_writing(path) as writer:
        made = writer.commit_backups(
            [
                Backup(str(uuid.uuid4()), device, b"set n=%d\n" % number * 20, None, "poll")
                for number, device in enumerate(DEVICES)
            ]
        )
    return path, made[-1].sha


@pytest.mark.parametrize("way", ["git", "no git", "few"])
def test_each_place_is_answered_in_its_order(
    way: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sha = written(store)
    if way == "no git":
        monkeypatch.setenv("PATH", os.devnull)
    tree = open_repository(path).git[sha].tree
    chosen = DEVICES[:10] if way == "few" else DEVICES
    places = [Place(sha, f"{device}/{EXPORT_NAME}") for device in chosen]
    places += [Place(str(tree[device].id), EXPORT_NAME) for device in reversed(chosen)]
    places += [Place(sha, "nothing"), Place(sha, chosen[0]), Place(str(tree.id), f"{chosen[0]}/x")]
    numbers = [*range(len(chosen))]
    wanted = [b"set n=%d\n" % number * 20 for number in (*numbers, *reversed(numbers))]
    assert [*read_many(open_repository(path), places)] == [*wanted, None, None, None]


@pytest.mark.parametrize("gone", [True, False], ids=["missing", "flipped"])
def test_a_damaged_file_is_told_and_those_before_it_are_not_lost(
    gone: bool, tmp_path: Path
) -> None:
    path, sha = written(tmp_path)
    [pack] = (path / "objects" / "pack").glob("*.pack")
    name = f"{DEVICES[40]}/{EXPORT_NAME}"
    blob = git(path, "rev-parse", f"{sha}:{name}").decode().strip()
    lines = git(path, "verify-pack", "-v", str(pack.with_suffix(".idx"))).decode().splitlines()
    [start, size] = next(
        (int(line.split()[4]), int(line.split()[3])) for line in lines if line.startswith(blob)
    )
    if gone:
        every = [line.split()[0] for line in lines if line[40:41] == " "]
        others = "\n".join(each for each in every if each != blob).encode()
        git(path, "pack-objects", "-q", str(pack.with_name("pack")), stdin=others)
        pack.with_suffix(".idx").unlink()
        pack.unlink()
    else:
        flip(pack, start + size // 2)
    places = [Place(sha, f"{device}/{EXPORT_NAME}") for device in DEVICES]
    reading = read_many(open_repository(path), places)
    assert [*islice(reading, 40)] == [b"set n=%d\n" % number * 20 for number in range(40)]
    with pytest.raises(RepositoryDamaged):
        next(reading)


def test_a_wrong_offset_in_an_idx_leads_to_no_other_device(tmp_path: Path) -> None:
    path, sha = written(tmp_path)
    tree = open_repository(path).git[sha].tree
    folders = [str(tree[device].id) for device in DEVICES]
    [idx] = (path / "objects" / "pack").glob("*.idx")
    data = bytearray(idx.read_bytes())
    one, other = (offset_at(bytes(data), bytes.fromhex(folders[number])) for number in (40, 50))
    data[one : one + 4], data[other : other + 4] = data[other : other + 4], data[one : one + 4]
    idx.chmod(0o600)
    idx.write_bytes(data)
    reading = read_many(open_repository(path), [Place(root, EXPORT_NAME) for root in folders])
    assert [*islice(reading, 40)] == [b"set n=%d\n" % number * 20 for number in range(40)]
    with pytest.raises(RepositoryDamaged):
        next(reading)
