"""What people are told by a repository that is damaged: never that what they ask for does not exist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from confkeep.errors import NotInStore, RepositoryDamaged
from tests.damage import flip, flipped, loose, loosen, offset_at
from tests.histories import device_ids, random_backups
from tests.judge import git
from worker.store.repository import reader
from worker.store.repository.tenant_repository import open_repository
from worker.store.upkeep.repack import repack
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Kind, Outcome
from worker.store.writing.commit import open_for_writing


def misled(bit: int, idx: bytes, id_: bytes) -> bytes:
    """The idx with one flipped bit in the object's offset, which is beyond the pack's end then."""
    return flipped(idx, 8 * (offset_at(idx, id_) + 3 - bit // 8) + bit % 8)


@pytest.mark.parametrize(
    ("kind", "damaged"),
    [
        ("idx", lambda idx, id_: b""),
        ("idx", lambda idx, id_: idx[:-500]),
        ("idx", lambda idx, id_: bytes(len(idx))),
        ("idx", lambda idx, id_: idx.replace(id_, id_[:-1] + bytes([id_[-1] ^ 1]))),
        *(("idx", partial(misled, bit)) for bit in (21, 24, 28, 30)),
        ("pack", lambda pack, id_: b""),
        ("pack", lambda pack, id_: pack[:-100]),
        ("pack", lambda pack, id_: pack[:-4] + bytes(4)),
        ("pack", lambda pack, id_: bytes(12) + pack[12:]),
        ("pack", None),
    ],
)
def test_a_commit_of_a_damaged_pack_is_not_called_unknown(
    tmp_path: Path, kind: str, damaged: Callable[[bytes, bytes], bytes] | None
) -> None:
    path = tmp_path / f"{uuid.uuid4()}.git"
    with open_for_writing(path) as writer:
        written = writer.commit_backups(random_backups(device_ids(2), 8, 1))
        others = writer.commit_backups(random_backups(device_ids(2), 8, 2))
    id_ = bytes.fromhex(written[0].sha)
    (idx,) = [
        file for file in (path / "objects" / "pack").glob("*.idx") if id_ in file.read_bytes()
    ]
    file = idx.with_suffix(f".{kind}")
    whole = file.read_bytes()
    file.unlink()
    if damaged is not None:
        file.write_bytes(damaged(whole, id_))
    repository = open_repository(path)
    with pytest.raises(RepositoryDamaged, match=file.name):
        reader.read_file(repository, written[0].sha, written[0].device_id, "export.rsc")
    # What another pack holds is found as before; of anything else nobody can tell.
    assert str(reader.find_commit(repository, others[0].sha).id) == others[0].sha
    with pytest.raises(RepositoryDamaged, match=file.name):
        reader.find_commit(repository, "12" * 20)

    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    with pytest.raises(NotInStore):
        reader.find_commit(open_repository(path), "12" * 20)


def test_a_full_repack_mends_a_pack_whose_objects_have_sound_copies(tmp_path: Path) -> None:
    path = tmp_path / f"{uuid.uuid4()}.git"
    folder = path / "objects" / "pack"
    with open_for_writing(path) as writer:
        written = writer.commit_backups(random_backups(device_ids(2), 8, 1))
    old = min(folder.glob("pack-*.pack"))
    for file in (old, old.with_suffix(".idx")):
        shutil.copy(file, tmp_path)
    repack(path, full=True)
    for file in (old, old.with_suffix(".idx")):
        shutil.copy(tmp_path / file.name, file)
    # It names the old pack for each object, and git would ask no other one.
    git(path, "multi-pack-index", "write", f"--preferred-pack={old.name}")
    with open_for_writing(path) as writer:
        written += writer.commit_backups(random_backups(device_ids(2), 8, 2))
    flip(old)
    report = verify_repository(path)
    assert [(each.kind, each.place) for each in report.findings] == [
        (Kind.PACK, f"objects/pack/{old.name}")
    ]

    repack(path, full=True)
    assert not old.exists()
    assert verify_repository(path).outcome == Outcome.CLEAN
    repository = open_repository(path)
    for answer in written:
        reader.read_file(repository, answer.sha, answer.device_id, "export.rsc")


#: Reads as much as it can, then commits as much as it can; in a process of its own, since libgit2 may read for ever.
_READ_AND_COMMIT = """
import sys
from contextlib import suppress
from pathlib import Path
from confkeep.errors import RepositoryDamaged
from tests.histories import random_backups
from worker.store.repository import reader
from worker.store.repository.tenant_repository import open_repository
from worker.store.writing.commit import open_for_writing

path, device = Path(sys.argv[1]), sys.argv[2]
def read():
    try:
        repository = open_repository(path)
        for version in reader.walk_versions(repository, device):
            reader.read_file(repository, version.sha, device, "export.rsc")
        print("read")
    except RepositoryDamaged as error:
        print(error)
read()
with suppress(RepositoryDamaged), open_for_writing(path) as writer:
    writer.commit_backups(random_backups([device], 1, 9))
    print("committed")
read()
"""


@pytest.mark.parametrize("cut", ["main", "main^{tree}", "main~3:DEVICE/export.rsc", "stray"])
def test_a_loose_object_that_is_cut_short_holds_up_nobody(tmp_path: Path, cut: str) -> None:
    path = tmp_path / f"{uuid.uuid4()}.git"
    (device,) = device_ids(1)
    with open_for_writing(path) as writer:
        writer.commit_backups(random_backups([device], 8, 1))
    loosen(path)
    if cut == "stray":
        found = git(path, "hash-object", "-w", "--stdin", stdin=b"/ip address\n" * 100)
    else:
        found = git(path, "rev-parse", cut.replace("DEVICE", device))
    id_ = found.decode().strip()
    file = loose(path, id_)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    place = f"objects/{id_[:2]}/{id_[2:]}"

    report = verify_repository(path)
    assert (Kind.LEFTOVER, place) in [(each.kind, each.place) for each in report.findings]
    done = subprocess.run(
        [sys.executable, "-c", _READ_AND_COMMIT, path, device],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    before, *_, after = done.stdout.splitlines()
    assert f"{place} is cut short" in before
    # The writer put it aside: who does not need it is served again.
    assert (after == "read") == (cut == "stray")
    assert "cut short" not in after
    assert ("committed" in done.stdout) == cut.startswith(("stray", "main~3"))
    assert file.with_name(f"{file.name}.cut").read_bytes() == whole[: len(whole) // 2]
    assert (verify_repository(path).outcome == Outcome.CLEAN) == (cut == "stray")

    file.write_bytes(whole)
    assert verify_repository(path).outcome == Outcome.CLEAN


def test_repair_puts_aside_what_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / f"{uuid.uuid4()}.git"
    with open_for_writing(path) as writer:
        writer.commit_backups(random_backups(device_ids(1), 8, 1))
    id_ = git(path, "hash-object", "-w", "--stdin", stdin=b"/ip address\n" * 100)
    file = loose(path, id_.decode().strip())
    whole = file.read_bytes()
    file.unlink()
    # Of two bytes with a flipped first one libgit2 reads the second for ever.
    flipped = bytes([whole[0] ^ 0x40, whole[1]])
    for left in (b"", whole[:1], flipped, whole[:10], whole[:-1]):
        file.write_bytes(left)
        repair_repository(verify_repository(path))
        assert not file.exists(), left
        assert verify_repository(path).outcome == Outcome.CLEAN
