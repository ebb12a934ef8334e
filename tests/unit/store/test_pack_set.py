"""Which packs are put together; and which go: those whose every object is in a pack that stays."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from worker.store.git import pack_set
from worker.store.git.pack import IdxEntry, encode_idx

#: Far more objects than are sampled, so that the samples of a pack can be elsewhere by chance.
OBJECTS = 300


def objects(rng: random.Random, count: int = OBJECTS) -> list[bytes]:
    """Ids of which some begin with the least and some with the greatest byte."""
    firsts = [0, 0, 255, 255, *(rng.randrange(256) for _ in range(count - 4))]
    return sorted(bytes([first]) + rng.randbytes(19) for first in firsts)


def write(folder: Path, ids: Iterable[bytes]) -> str:
    """An idx of these objects, beside a pack that nobody looks into; the pack's name."""
    known = sorted(ids)
    name = f"pack-{random.Random(repr(known)).randbytes(20).hex()}"
    (folder / f"{name}.pack").write_bytes(b"")
    entries = [IdxEntry(id_, 0, 12 + number) for number, id_ in enumerate(known)]
    (folder / f"{name}.idx").write_bytes(encode_idx(entries, bytes(20)))
    return name


def not_sampled(ids: Collection[bytes]) -> list[bytes]:
    step = max(1, len(ids) // 8)
    known = sorted(ids)
    return sorted(set(known) - set(known[::step]))


def test_the_one_object_that_is_nowhere_else_keeps_its_pack(tmp_path: Path) -> None:
    ids = objects(random.Random(1))
    for number, lost in enumerate([*not_sampled(ids)[::29], ids[1], ids[-1]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        old = write(folder, ids)
        write(folder, [id_ for id_ in ids if id_ != lost])
        assert pack_set.superfluous(folder, [old]) == []
        write(folder, [lost, ids[0]])
        assert pack_set.superfluous(folder, [old]) == [old]


def test_of_two_packs_that_cover_each_other_the_one_that_was_there_goes(tmp_path: Path) -> None:
    ids = objects(random.Random(2))
    first = write(tmp_path, ids)
    second = f"pack-{'e' * 40}"
    for kind in ("pack", "idx"):
        (tmp_path / f"{second}.{kind}").write_bytes((tmp_path / f"{first}.{kind}").read_bytes())
    assert pack_set.superfluous(tmp_path, [first]) == [first]
    # Somebody's repack may be about to remove either.
    assert pack_set.superfluous(tmp_path, [first, second]) == []


def test_packs_that_were_there_are_no_reason_to_remove_each_other(tmp_path: Path) -> None:
    ids = objects(random.Random(3))
    thirds = [set(ids[number::3]) for number in range(3)]
    names = [write(tmp_path, thirds[number] | thirds[(number + 1) % 3]) for number in range(3)]
    assert pack_set.superfluous(tmp_path, names) == []
    # Several new ones together may be.
    for third in thirds[:2]:
        write(tmp_path, third)
    assert pack_set.superfluous(tmp_path, names) == names[:1]


def random_packs(rng: random.Random, ids: list[bytes]) -> list[set[bytes]]:
    """Packs that nearly cover each other: copies, unions and parts, most with an object less."""
    packs = [set(rng.sample(ids, rng.randrange(1, len(ids) + 1)))]
    for _ in range(rng.randrange(1, 6)):
        made = set(rng.choice(packs))
        if rng.random() < 0.5:
            made |= rng.choice(packs)
        if rng.random() < 0.3:
            made &= set(rng.sample(ids, len(ids) // 2))
        if rng.random() < 0.3:
            made |= set(rng.sample(ids, rng.randrange(4)))
        missing = not_sampled(made) if rng.random() < 0.7 else sorted(made)
        ends = [id_ for id_ in missing if id_[0] in (0, 255)]
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            if len(made) > 1 and missing:
                made.discard(rng.choice(ends if ends and rng.random() < 0.5 else missing))
        packs.append(made)
    return packs


@pytest.mark.parametrize(
    "seeds", [range(150), pytest.param(range(1_000, 11_000), marks=pytest.mark.chaos)], ids=len
)
def test_of_random_packs_none_goes_whose_objects_are_not_all_elsewhere(
    tmp_path: Path, seeds: range
) -> None:
    gone_at_all = 0
    for seed in seeds:
        rng = random.Random(seed)
        here = tmp_path / str(seed)
        here.mkdir()
        contents = {write(here, ids): ids for ids in random_packs(rng, objects(rng))}
        names = sorted(contents)
        old = rng.sample(names, rng.randrange(1, len(names) + 1))
        gone = pack_set.superfluous(here, old)
        new = set().union(*(contents[name] for name in names if name not in old))
        wrong = [name for name in gone if not contents[name] <= new]
        assert not wrong, f"seed {seed}: {wrong} hold what is in no new pack"
        stay = [name for name in old if contents[name] <= new and name not in gone]
        assert not stay, f"seed {seed}: {stay} are in new packs, and stay"
        assert set(gone) <= set(old), f"seed {seed}: a pack that was not there before goes"
        gone_at_all += len(gone)
    assert gone_at_all > 10


def test_a_pack_that_somebody_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = objects(random.Random(2))
    old, gone = write(tmp_path, ids), write(tmp_path, ids[:9])
    listed = pack_set.names_of(tmp_path)
    monkeypatch.setattr(pack_set, "names_of", lambda _folder: listed)
    (tmp_path / f"{gone}.idx").unlink()
    assert pack_set.superfluous(tmp_path, [old]) == []
    assert list(pack_set.missing_from(tmp_path, old, [gone])) == []


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([], 0),
        ([5], 0),
        ([4, 9], 0),
        ([4, 7], 2),
        ([4, 4, 4], 3),
        ([4, 4, 16], 2),
        # Together they are more than half of the next one.
        ([4, 4, 15], 3),
        ([4, 8, 16, 32], 0),
        ([4, 8, 15, 60, 500], 3),
    ],
    ids=str,
)
def test_small_packs_are_those_that_git_would_put_together(
    sizes: list[int], chosen: int, tmp_path: Path
) -> None:
    rng = random.Random(3)
    names = [write(tmp_path, objects(rng, size)) for size in sizes]
    small = pack_set.small(tmp_path, rng.sample(names, len(names)))
    assert sorted(small.values()) == sizes[:chosen]
    if len(set(sizes)) == len(sizes):
        assert small == dict(zip(names[:chosen], sizes, strict=False))


def test_ids_are_found_in_the_named_packs_alone(tmp_path: Path) -> None:
    rng = random.Random(4)
    mine, theirs, others = (objects(rng, 9) for _ in range(3))
    names = [write(tmp_path, mine), write(tmp_path, theirs)]
    write(tmp_path, others)
    with pack_set.ids_in(tmp_path, names) as are_there:
        assert all(are_there(id_) for id_ in (*mine, *theirs))
        assert not any(are_there(id_) for id_ in others)
