"""Whatever is wrong in a repository is found; what is derived is rebuilt, and nothing else touched."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from confkeep.errors import InvalidInput, RepositoryBusy
from tests.damage import contents_of, flip, flipped, loose, loosen, offset_at
from tests.histories import device_ids, random_backups, write_linear, write_merged
from tests.judge import git, log_of_device
from worker.store.git import flock, keep
from worker.store.history.index import INDEX_NAME, open_index
from worker.store.history.index_file import IndexFile
from worker.store.repository import reader
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_refs import check_refs
from worker.store.upkeep.verify_report import Kind, Outcome, Report, parse_subset
from worker.store.writing.commit import open_for_writing


def small_store(folder: Path, *, first_seed: int = 0) -> Path:
    """Some batches, an index, main loose and, as it was before, packed."""
    path = folder / f"{uuid.uuid4()}.git"
    with open_for_writing(path) as writer:
        for seed in range(first_seed, first_seed + 4):
            git(path, "pack-refs", "--all")
            writer.commit_backups(random_backups(device_ids(4), 8, seed))
    return path


def the_pack(path: Path) -> Path:
    return max((path / "objects" / "pack").glob("*.pack"), key=lambda file: file.stat().st_size)


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.kind.value, finding.place) for finding in report.findings}


def test_a_sound_repository_is_clean_and_stays_as_it_is(store: Path) -> None:
    path = small_store(store)
    before = contents_of(path)
    told: list[str] = []
    report = verify_repository(path, progress=lambda what, done, total: told.append(what))
    assert (report.outcome, report.findings, report.complete) == (Outcome.CLEAN, [], True)
    assert (report.commits, report.devices) == (32, 4)
    listed = git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    assert report.objects >= len(listed.split())
    assert set(told) >= {"packs", "objects", "commits", "devices", "index"}
    assert contents_of(path) == before


@pytest.mark.parametrize("kind", ["commit", "tree", "blob"])
@pytest.mark.parametrize("damage", ["empty", "header", "cut off"])
def test_a_damaged_loose_object_is_found_whatever_it_is(path: Path, kind: str, damage: str) -> None:
    write_linear(path, device_ids(3), 10)
    loosen(path)
    assert verify_repository(path).outcome == Outcome.CLEAN
    listed = git(
        path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"
    )
    id_ = next(line.split()[1] for line in listed.decode().splitlines() if line.startswith(kind))
    file = loose(path, id_)
    whole = file.read_bytes()
    file.write_bytes({"empty": b"", "header": b"\0" + whole[1:], "cut off": whole[:-6]}[damage])
    assert ("object", id_) in found(verify_repository(path))
    file.write_bytes(whole)
    assert verify_repository(path).outcome == Outcome.CLEAN


@pytest.mark.parametrize("keep", ["loose", "repacked", "graph and index", "merged", "empty"])
def test_repositories_of_plain_git_are_clean(path: Path, keep: str) -> None:
    if keep == "empty":
        create_repository(path)
    elif keep == "merged":
        write_merged(path, device_ids(3), 60, 5)
    else:
        write_linear(path, device_ids(3), 60)
    if keep == "loose":
        loosen(path)
    elif keep != "empty":
        git(path, "repack", "-q", "-a", "-d", "-f", "--depth=50")
    if keep == "graph and index":
        git(path, "repack", "-q", "-a", "-d", "-b", "--write-midx")
        git(path, "commit-graph", "write", "--reachable", "--changed-paths")
        git(path, "tag", "-a", "-m", "x", "v1", "main")
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.catch_up(repository.tip())
    report = verify_repository(path)
    assert (report.outcome, report.findings) == (Outcome.CLEAN, [])


@pytest.mark.parametrize("flips", [100, pytest.param(500, marks=pytest.mark.chaos)])
def test_no_flipped_bit_is_missed(flips: int, tmp_path: Path) -> None:
    """Anywhere in packs, idx files, the ref and HEAD."""
    path = small_store(tmp_path)
    sound = contents_of(path)
    places = [name for name in sound if name.endswith((".pack", ".idx"))]
    places += ["HEAD", "refs/heads/main"]
    rng = random.Random(11)
    for number in range(flips):
        # Half of them in each file alike, half by the files' sizes.
        sizes = [len(sound[name]) if number % 4 < 2 else 1 for name in places]
        (name,) = rng.choices(places, sizes)
        bit = rng.randrange(8 * len(sound[name]))
        (path / name).write_bytes(flipped(sound[name], bit))
        # A run over a part of the objects finds it as well: by the checksums of whole files.
        report = verify_repository(path, subset=(1, 1000) if number % 2 else None)
        assert report.outcome == Outcome.DAMAGED, (name, bit)
        (path / name).write_bytes(sound[name])
    assert verify_repository(path).outcome == Outcome.CLEAN


@pytest.mark.timeout(60)
def test_an_object_that_announces_more_bytes_than_it_has_ends_no_verification(path: Path) -> None:
    """Git announces the size of a damaged copy, and prints a sound one that another pack holds.

    Who waits for the rest waits for ever.
    """
    (backup,) = random_backups(device_ids(1), 1, 1)
    with open_for_writing(path) as writer:
        for device in device_ids(2):
            again = replace(backup, backup_id=str(uuid.uuid4()), device_id=device)
            writer.commit_backups([again])
    latest = set(git(path, "ls-tree", "-r", "main").decode().split()[2::4])
    for pack in (path / "objects" / "pack").glob("*.pack"):
        sound = pack.read_bytes()
        listed = git(path, "show-index", stdin=pack.with_suffix(".idx").read_bytes()).decode()
        places = [int(at) for at, id_, _ in map(str.split, listed.splitlines()) if id_ in latest]
        assert places
        for at in places:
            for bit in range(4):  # the size's lowest
                pack.write_bytes(flipped(sound, 8 * at + bit))
                assert found(verify_repository(path, subset=(1, 1000))) == {
                    ("pack", f"objects/pack/{pack.name}")
                }
        # As large as a header can say: no process has so much memory.
        at = min(places)
        pack.write_bytes(sound[:at] + b"\xbf" + 7 * b"\xff" + b"\x7f" + sound[at + 9 :])
        report = verify_repository(path)
        assert report.outcome == Outcome.DAMAGED
        assert not any("Error" in finding.text for finding in report.findings), report.findings
        pack.write_bytes(sound)


def test_no_flipped_bit_of_packed_refs_is_missed(tmp_path: Path) -> None:
    path = small_store(tmp_path)
    git(path, "pack-refs", "--all")
    sound = (path / "packed-refs").read_bytes()
    for bit in range(8 * len(sound)):
        (path / "packed-refs").write_bytes(flipped(sound, bit))
        of_refs = Report(path)
        check_refs(of_refs)
        # A whole verification starts git. Where its look at the refs finds the bit by itself, one in
        # sixteen shows that the look is part of it.
        if of_refs.outcome == Outcome.CLEAN or bit % 16 == 0:
            assert verify_repository(path, subset=(1, 1000)).outcome == Outcome.DAMAGED, bit


def test_truncation_and_garbage_are_found(tmp_path: Path) -> None:
    path = small_store(tmp_path)
    sound = contents_of(path)
    rng = random.Random(5)
    places = [name for name in sound if name.endswith((".pack", ".idx"))]
    for name in [*places, "HEAD", "refs/heads/main", "packed-refs", INDEX_NAME]:
        size = len(sound[name])
        for damaged in (sound[name][: rng.randrange(1, size)], rng.randbytes(size), b""):
            (path / name).write_bytes(damaged)
            outcome = verify_repository(path).outcome
            # An empty index is one that has yet to catch up; empty packed refs hold nothing.
            if damaged or name not in (INDEX_NAME, "packed-refs"):
                assert outcome == Outcome.DAMAGED, name
        (path / name).write_bytes(sound[name])


def test_missing_and_locked_are_told_apart(store: Path) -> None:
    assert verify_repository(store / "absent.git").outcome == Outcome.MISSING
    path = small_store(store)
    with flock.shared(path):
        assert verify_repository(path, lock_wait_s=0.05).outcome == Outcome.LOCKED
    assert verify_repository(path).outcome == Outcome.CLEAN


def test_subsets_together_see_every_object(store: Path) -> None:
    path = small_store(store)
    whole = verify_repository(path).objects
    parts = [verify_repository(path, subset=(part, 5)).objects for part in range(1, 6)]
    assert sum(parts) == whole
    assert all(part < whole for part in parts)
    for wrong in ("0/5", "6/5", "1/0"):
        with pytest.raises(InvalidInput, match="subset"):
            parse_subset(wrong)


def test_a_limit_of_time_is_kept_and_told(store: Path) -> None:
    path = small_store(store)
    report = verify_repository(path, max_duration_s=0)
    assert not report.complete
    assert report.outcome == Outcome.CLEAN
    stopped = verify_repository(path, stop=lambda: True)
    assert (stopped.complete, stopped.outcome) == (False, Outcome.CLEAN)


def test_a_report_of_very_many_findings_is_cut_and_says_so() -> None:
    report = Report(Path())
    for number in range(5):
        report.add(Kind.IDX, f"{number}", "broken")
    said = report.to_json(2)
    assert (said["finding_count"], said["outcome"]) == (5, "damaged")
    finding = {"kind": "idx", "place": "1", "text": "broken", "repairable": True}
    assert json.loads(json.dumps(said))["findings"][1:] == [finding]


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{uuid.uuid4()}.git"
    write_linear(path, device_ids(2), 10)
    loosen(path)
    device = device_ids(2)[0]
    for expression, kind in (
        (f"main:{device}/export.rsc", "blob"),
        (f"main:{device}", "tree"),
        ("main^{tree}", "tree"),
        ("main~4", "commit"),
    ):
        lost = git(path, "rev-parse", expression).decode().strip()
        file = loose(path, lost)
        kept = file.read_bytes()
        file.unlink()
        report = verify_repository(path)
        assert (Kind.OBJECT.value, lost) in found(report), kind
        file.write_bytes(kept)
    assert verify_repository(path).outcome == Outcome.CLEAN


def test_a_device_that_a_commit_lost_is_named(tmp_path: Path) -> None:
    """What rebuilding the root tree from an empty one would do: all objects are sound."""
    path = small_store(tmp_path)
    raw = git(path, "cat-file", "commit", "main").decode("utf-8", "surrogateescape")
    kept, lost = sorted(reader.devices_of(open_repository(path)))[:2]
    listed = git(path, "ls-tree", "main").decode().splitlines(keepends=True)
    tree = git(
        path, "mktree", stdin="".join(line for line in listed if lost not in line).encode()
    ).decode().strip()  # fmt: skip
    old_tree = git(path, "rev-parse", "main^{tree}").decode().strip()
    sha = git(
        path, "hash-object", "-t", "commit", "-w", "--stdin",
        stdin=raw.replace(old_tree, tree).encode("utf-8", "surrogateescape"),
    ).decode().strip()  # fmt: skip
    git(path, "update-ref", "refs/heads/main", sha)
    report = verify_repository(path)
    assert ("device", lost) in found(report)
    assert ("device", kept) not in found(report)


def test_an_index_whose_writer_was_killed_is_no_alarm(tmp_path: Path) -> None:
    """Pages of its transaction are in the file already, and the journal that takes them back."""
    path, killed = small_store(tmp_path), tmp_path / "killed.git"
    file = IndexFile(path / INDEX_NAME, write=True)
    file._db.execute("PRAGMA cache_size=1")
    file._db.execute("BEGIN IMMEDIATE")
    for change in ("commits SET committed_s=1", "versions SET number=1", "devices SET seen_s=1"):
        file._db.execute(f"UPDATE {change}")
    shutil.copytree(path, killed)
    file.close()
    assert contents_of(killed)[INDEX_NAME] != contents_of(path)[INDEX_NAME]
    assert verify_repository(killed).findings == []
    (killed / f"{INDEX_NAME}-journal").unlink()
    assert ("index", INDEX_NAME) in found(verify_repository(killed))


def test_an_index_that_says_something_else_is_found(tmp_path: Path) -> None:
    """Rows that fit each other and their checksums, but not git."""
    path = small_store(tmp_path)
    other = small_store(tmp_path, first_seed=50)
    shutil.copy(other / INDEX_NAME, path / INDEX_NAME)
    assert ("index", INDEX_NAME) in found(verify_repository(path))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("head", lambda path: (path / "HEAD").write_bytes(b"")),
        ("head", lambda path: (path / "HEAD").write_bytes(b"ref: refs/heads/maim\n")),
        ("idx", lambda path: the_pack(path).with_suffix(".idx").unlink()),
        ("idx", lambda path: flip(the_pack(path).with_suffix(".idx"))),
        ("idx", lambda path: _mislead(the_pack(path).with_suffix(".idx"))),
        ("helper", lambda path: (path / "objects/pack/multi-pack-index").write_bytes(b"x" * 99)),
        ("helper", lambda path: _graph(path)),
        ("index", lambda path: flip(path / INDEX_NAME, 0)),
        ("leftover", lambda path: (path / "refs/heads/main.lock").write_bytes(b"")),
        ("leftover", lambda path: (path / "objects/pack/tmp_pack_confkeep_1").write_bytes(b"x")),
    ],
)
def test_what_is_derived_is_mended(
    store: Path, kind: str, damage: Callable[[Path], object]
) -> None:
    path = small_store(store)
    before = contents_of(path)
    damage(path)
    report = verify_repository(path)
    assert {finding.kind.value for finding in report.findings} >= {kind}
    repaired = repair_repository(report)
    again = repair_repository(verify_repository(path))  # damage may hide behind damage
    assert repaired.mended
    assert again.left == []
    assert verify_repository(path).findings == []
    after = contents_of(path)
    for name, data in before.items():
        if not name.startswith("confkeep."):
            assert after[name] == data, name
    assert set(after) - set(before) <= {"objects/info/commit-graph", "confkeep.flock"}
    for device in device_ids(4):
        versions = reader.walk_versions(open_repository(path), device)
        assert [version.sha for version in versions] == log_of_device(path, device)


def _mislead(idx: Path) -> None:
    """Let the idx name a place beyond its pack's end, which ends git."""
    data = idx.read_bytes()
    flip(idx, offset_at(data, data[1032:1052]))


def _graph(path: Path) -> None:
    git(path, "commit-graph", "write", "--reachable")
    flip(path / "objects/info/commit-graph")


def test_what_is_not_derived_is_never_touched(tmp_path: Path) -> None:
    path = small_store(tmp_path)
    sound = contents_of(path)
    pack = the_pack(path).relative_to(path).as_posix()
    for name in (pack, "refs/heads/main", "packed-refs"):
        flip(path / name)
        before = contents_of(path)
        repaired = repair_repository(verify_repository(path))
        assert repaired.left
        after = contents_of(path)
        assert {place for place in before if before[place] != after.get(place)} <= {INDEX_NAME}
        (path / name).write_bytes(sound[name])
    assert verify_repository(path).outcome == Outcome.CLEAN


def test_a_pack_without_idx_that_a_crash_left(store: Path) -> None:
    """Ended between the two renames: the pack is torn off, and its idx has its temporary name."""
    path = small_store(store)
    pack = the_pack(path)
    # A copy under another name stands for the pack of a batch that never became visible.
    torn = pack.with_name(f"{keep.new_name()}.pack")
    shutil.copy(pack, torn)
    shutil.copy(pack.with_suffix(".idx"), pack.with_name(".tmp_idx_confkeep_1"))
    torn.with_suffix(".keep").symlink_to("../../confkeep.flock")
    report = verify_repository(path)
    assert {finding.kind for finding in report.findings} == {Kind.LEFTOVER}
    assert len(report.findings) == 3
    repair_repository(report)
    assert verify_repository(path).outcome == Outcome.CLEAN
    assert not torn.exists()


def test_half_of_a_pack_that_is_whole_again_stays(store: Path) -> None:
    """Somebody may have brought the other half back since it was verified."""
    path = small_store(store)
    pack = the_pack(path)
    idx = pack.with_name(f"{keep.new_name()}.idx")
    shutil.copy(pack.with_suffix(".idx"), idx)
    report = verify_repository(path)
    assert [finding.place for finding in report.findings] == [idx.relative_to(path).as_posix()]
    shutil.copy(pack, idx.with_suffix(".pack"))
    repair_repository(report)
    assert idx.exists()


def test_nothing_is_mended_beside_a_writer_or_a_repack(store: Path) -> None:
    path, lost = small_store(store), "ref: refs/heads/lost\n"
    (path / "HEAD").write_text(lost)
    report = verify_repository(path)
    for held in (flock.shared, flock.maintenance):
        with held(path), pytest.raises(RepositoryBusy):
            repair_repository(report)
    assert (path / "HEAD").read_text() == lost
    assert repair_repository(report).left == []


def test_of_keeps_only_ours_are_leftovers(store: Path) -> None:
    path = small_store(store)
    pack = the_pack(path)
    people = [pack.with_name(f"{keep.new_name()}.keep") for _ in range(3)]
    people[0].touch()
    people[1].write_bytes(b"receive-pack 4711 on git.example.net\n")
    people[2].symlink_to("../../HEAD")
    ours = pack.with_suffix(".keep")
    ours.symlink_to("../../confkeep.flock")
    with flock.shared(path):
        create_repository(path)
        assert ours.is_symlink(), "a writer lives"
    report = verify_repository(path)
    assert [finding.place for finding in report.findings] == [ours.relative_to(path).as_posix()]
    assert report.findings[0].kind == Kind.LEFTOVER
    create_repository(path)
    assert not ours.is_symlink()
    assert all(file.exists() for file in people)
    assert verify_repository(path).outcome == Outcome.CLEAN
