"""Keys and shards: the same in every process, and every shard somebody's."""

from __future__ import annotations

import re
import uuid
from collections import Counter

import pytest

from confkeep.broker import keys
from tests.garbage import all_keys


def test_a_tenants_shard_never_changes_between_releases() -> None:
    tenants = [str(uuid.UUID(int=n)) for n in range(4)]
    assert [keys.shard_of(tenant, 16) for tenant in tenants] == [3, 4, 10, 6]


def test_tenants_spread_evenly() -> None:
    counts = Counter(keys.shard_of(str(uuid.UUID(int=n)), 16) for n in range(16_000))
    assert set(counts) == set(range(16))
    assert max(counts.values()) < 1.2 * min(counts.values())


@pytest.mark.parametrize("shards", [1, 3, 16])
@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_every_shard_has_a_worker_and_every_worker_a_shard(shards: int, count: int) -> None:
    taken = [set(keys.shards_of_worker(index, count, shards)) for index in range(count)]
    assert set().union(*taken) == set(range(shards))
    assert all(taken)
    if count <= shards:
        assert sum(map(len, taken)) == shards, "no shard has two workers"
        assert all(shard % count == index for index, own in enumerate(taken) for shard in own)


def test_results_lie_where_celery_looks() -> None:
    from celery.backends.redis import RedisBackend

    assert keys.result("x") == RedisBackend.task_keyprefix + "x"


def test_the_schema_gives_each_key_and_its_type() -> None:
    rows = re.findall(
        r"^    (\S+:\S+) +(string|hash|zset|list|stream|any) ", keys.__doc__ or "", re.MULTILINE
    )
    schema = {name.replace("<tenant>", "T"): kind for name, kind in rows}
    typed = {**keys.TYPES, **keys.types_of("T")}
    for name, kind in typed.items():
        assert schema[name] == ("string" if kind == keys.EXPIRING else kind), name
    # Those of single backups, and what was set aside, are of one type each and bear any.
    rest = schema.keys() - typed.keys()
    assert {name.split(":")[1] for name in rest} == {"staged", "handoff", "odd", "spent", "sweep"}
    named = {key.decode() for names in all_keys("T", "B").values() for key in names[:1]}
    assert {":".join(name.split(":")[:2]) for name in schema} == {
        ":".join(name.split(":")[:2])
        for name in named - {keys.MARK}  # a channel
        if name.startswith(keys.PREFIX)
    }
