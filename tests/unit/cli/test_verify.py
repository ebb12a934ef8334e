"""verify, repair and reindex: what they say, what they end with, and what they leave alone."""

from __future__ import annotations

import functools
import json
import os
import random
from pathlib import Path

import pytest

from tests.damage import contents_of, flip
from tests.judge import git
from tests.unit.cli.conftest import ROUTER, SWITCH, TENANT, Confkeep, Store
from worker.cli import repair, verify
from worker.store.git import flock
from worker.store.history.index import INDEX_NAME, open_index
from worker.store.repository.tenant_repository import open_repository, repository_path
from worker.store.upkeep import repack_state
from worker.store.upkeep.verify import verify_repository

OTHER = "aaaa2222-0000-4000-8000-000000000002"


def the_pack(repository: Path) -> Path:
    return min(repository.glob("objects/pack/*.pack"))


def test_a_sound_store_is_clean(filled: Store, confkeep: Confkeep) -> None:
    filled.add(SWITCH, b"/interface\n", tenant_id=OTHER)

    said = json.loads(confkeep("verify", "--json").stdout)
    done = confkeep("verify")

    assert done.exit_code == 0
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"{TENANT}: clean",
        f"{OTHER}: clean",
    ]
    assert (said["outcome"], said["not_verified"]) == ("clean", [])
    first = said["tenants"][0]
    assert (first["tenant_id"], first["outcome"], first["complete"]) == (TENANT, "clean", True)
    assert (first["commits"], first["devices"], first["findings"]) == (5, 2, [])
    assert first["objects"] > 5


def test_damage_is_listed_with_what_to_do_and_the_others_are_looked_at_too(
    filled: Store, confkeep: Confkeep
) -> None:
    filled.add(SWITCH, b"/interface\n", tenant_id=OTHER)
    pack = the_pack(repository_path(filled.path, TENANT))
    sound = pack.read_bytes()
    flip(pack, 20)

    said = confkeep("verify", "--json")
    done = confkeep("verify")
    alone = confkeep("verify", OTHER)

    assert (said.exit_code, done.exit_code, alone.exit_code) == (33, 33, 0)
    report = json.loads(said.stdout)
    assert report["outcome"] == "damaged"
    assert [one["outcome"] for one in report["tenants"]] == ["damaged", "clean"]
    found = report["tenants"][0]["findings"]
    assert report["tenants"][0]["finding_count"] == len(found)
    assert {"kind": "pack", "place": f"objects/pack/{pack.name}"}.items() <= found[0].items()
    assert found[0]["repairable"] is False
    assert f"{TENANT}: damaged" in done.stdout
    assert f"  pack objects/pack/{pack.name}: " in done.stdout
    assert "restore the file, and its idx, from a copy" in done.stdout
    assert done.stderr.splitlines()[0] == f"error: tenant {TENANT}: {len(found)} findings"
    assert "confkeep repair" in done.stderr
    pack.write_bytes(sound)


def test_what_is_missing_is_told_from_what_is_clean(filled: Store, confkeep: Confkeep) -> None:
    assert confkeep("verify", OTHER).exit_code == 31
    assert json.loads(confkeep("verify", OTHER, "--json").stdout)["outcome"] == "missing"
    filled.path.rename(filled.path.with_name("unmounted"))

    assert confkeep("verify").exit_code == 36
    assert confkeep("repair").exit_code == 36
    assert confkeep("reindex", "--all").exit_code == 36


def test_a_repository_that_is_always_written_is_locked(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = functools.partial(verify_repository, lock_wait_s=0.05)
    monkeypatch.setattr(verify, "verify_repository", soon)

    with flock.shared(repository_path(filled.path, TENANT)):
        done = confkeep("verify", TENANT, "--json")

    assert done.exit_code == 32
    assert json.loads(done.stdout)["outcome"] == "locked"


def test_what_there_was_no_time_for_is_said(filled: Store, confkeep: Confkeep) -> None:
    filled.add(SWITCH, b"/interface\n", tenant_id=OTHER)

    done = confkeep("verify", "--max-duration", "0.000001", "--json")

    assert done.exit_code == 0
    said = json.loads(done.stdout)
    (looked_at,) = said["tenants"]
    assert looked_at["complete"] is False
    assert sorted([looked_at["tenant_id"], *said["not_verified"]]) == [TENANT, OTHER]
    assert "The time was over" in done.stderr
    assert (
        "clean as far as it was looked at"
        in confkeep("verify", TENANT, "--max-duration", "0.000001").stdout
    )


def test_subsets_together_read_every_object(filled: Store, confkeep: Confkeep) -> None:
    def objects(*options: str) -> int:
        said = json.loads(confkeep("verify", TENANT, "--json", *options).stdout)
        return int(said["tenants"][0]["objects"])

    parts = [objects("--subset", f"{part}/3") for part in (1, 2, 3)]

    assert sum(parts) == objects()
    assert all(part < objects() for part in parts)


@pytest.mark.parametrize("subset", ["0/3", "4/3", "3", "a/b", "1/3/3", "-1/3", "٣/٤"])
def test_a_wrong_subset_is_refused(filled: Store, confkeep: Confkeep, subset: str) -> None:
    done = confkeep("verify", TENANT, f"--subset={subset}")

    assert done.exit_code == 2
    assert "subset: must be N/T" in done.stderr


def test_repair_makes_anew_what_is_derived(filled: Store, confkeep: Confkeep) -> None:
    repository = repository_path(filled.path, TENANT)
    before = contents_of(repository)
    the_pack(repository).with_suffix(".idx").unlink()
    (repository / "HEAD").write_bytes(b"nonsense")
    (repository / INDEX_NAME).write_bytes(random.Random(1).randbytes(8192))
    assert confkeep("verify", TENANT).exit_code == 33

    done = confkeep("repair", TENANT)

    assert done.exit_code == 0, done.output
    assert f"{TENANT}: mended, and sound now" in done.stdout
    for place in ("HEAD", "objects/pack/", INDEX_NAME):
        assert f"  rebuilt: {place}" in done.stdout
    after = contents_of(repository)
    derived = {name for name in before if name.startswith("confkeep.")}
    assert {n: after[n] for n in before.keys() - derived} == {
        n: before[n] for n in before.keys() - derived
    }
    assert confkeep("verify", TENANT).exit_code == 0
    assert "sound; nothing to do" in confkeep("repair", TENANT).stdout


def test_what_a_damaged_idx_hides_is_to_be_repaired_first(
    filled: Store, confkeep: Confkeep
) -> None:
    repository = repository_path(filled.path, TENANT)
    idx = the_pack(repository).with_suffix(".idx")
    # The beginning of the last object's offset, before the two checksums: git ends there.
    flip(idx, idx.stat().st_size - 2 * 20 - 3)

    said = confkeep("verify", TENANT).stdout

    assert "\n  unreadable " in said
    assert "owner" not in said
    assert "from a copy" not in said
    assert f"`confkeep repair {TENANT}` first" in said
    assert confkeep("repair", TENANT).exit_code == 0


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_repair_says_what_it_mended_before_it_lacked_room(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    repository = repository_path(filled.path, TENANT)
    pack = the_pack(repository)
    git(repository, "pack-objects", "--all", "-q", str(pack.parent / "pack"))
    flip(pack)
    (repository / "HEAD").write_bytes(b"nonsense")
    monkeypatch.setattr(repack_state, "free_bytes", lambda _path: 0)

    done = confkeep("repair", TENANT, *more)

    assert done.exit_code == 34, done.output
    mended, error, hint = done.stderr.split("\n", 1)[1].splitlines()
    assert mended == "  rebuilt: HEAD (it names neither a branch nor a commit)"
    assert error.startswith("error: ")
    assert "of free space" in error
    assert hint == f"hint: Free space on the disk of {repository}."
    assert pack.exists()
    monkeypatch.undo()
    assert confkeep("repair", TENANT).exit_code == 0


def test_repair_leaves_what_it_cannot_make_anew(filled: Store, confkeep: Confkeep) -> None:
    repository = repository_path(filled.path, TENANT)
    pack = the_pack(repository)
    sound = pack.read_bytes()
    flip(pack, 20)
    (repository / "HEAD").write_bytes(b"nonsense")
    before = contents_of(repository)

    done = confkeep("repair", TENANT, "--json")
    text = confkeep("repair", TENANT)

    assert (done.exit_code, text.exit_code) == (33, 33)
    (said,) = json.loads(done.stdout)["tenants"]
    assert [finding["place"] for finding in said["mended"]] == ["HEAD"]
    assert "pack" in {finding["kind"] for finding in said["left"]}
    assert "  not touched:\n" in text.stdout
    after = contents_of(repository)
    assert {name for name in before if after[name] != before[name]} == {"HEAD"}
    pack.write_bytes(sound)


def test_repair_waits_for_a_moment_without_writers(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = repository_path(filled.path, TENANT)
    (repository / "HEAD").write_bytes(b"nonsense")
    report = verify_repository(repository)
    monkeypatch.setattr(repair, "verify_repository", lambda *_, **__: report)
    monkeypatch.setattr(repair, "_WAIT_S", 0.05)

    with flock.shared(repository):
        done = confkeep("repair", TENANT)

    assert done.exit_code == 32
    assert (repository / "HEAD").read_bytes() == b"nonsense"
    (repository / "HEAD").write_bytes(b"ref: refs/heads/main\n")


def test_reindex_builds_the_index_anew(filled: Store, confkeep: Confkeep) -> None:
    repository = repository_path(filled.path, TENANT)
    answer = confkeep("history", TENANT, ROUTER, "--json").stdout
    with (repository / INDEX_NAME).open("rb") as sound:
        assert confkeep("reindex", TENANT).exit_code == 0
        built = (repository / INDEX_NAME).stat()
        assert built.st_ino != os.fstat(sound.fileno()).st_ino, "also a sound one is built anew"
    (repository / INDEX_NAME).write_bytes(b"nonsense")

    done = confkeep("reindex", "--all")

    assert done.exit_code == 0
    assert f"{TENANT}: index built" in done.stdout
    opened = open_repository(repository)
    with open_index(opened) as index:
        assert index.is_complete(opened.tip())
    assert confkeep("history", TENANT, ROUTER, "--json").stdout == answer
    assert confkeep("verify", TENANT).exit_code == 0


def test_reindex_wants_a_tenant_or_all(filled: Store, confkeep: Confkeep) -> None:
    assert confkeep("reindex").exit_code == 2
    assert confkeep("reindex", TENANT, "--all").exit_code == 2
    assert confkeep("reindex", OTHER).exit_code == 31
    assert confkeep("reindex", TENANT).exit_code == 0


def test_reindex_says_that_it_could_not(
    filled: Store, confkeep: Confkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = repository_path(filled.path, TENANT) / INDEX_NAME
    index.unlink()
    index.mkdir()

    assert confkeep("reindex", TENANT).exit_code == 34
    index.rmdir()
