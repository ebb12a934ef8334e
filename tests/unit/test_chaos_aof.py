"""The chaos run cuts an append-only file where it says, and only within what it was given."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.append_only import commands, newest, transactions
from tests.chaos.aof import choose_cut


def command(*words: bytes) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(parts)


SINGLE = command(b"set", b"key", b"a value\r\n*3\r\n")
TRANSACTION = [
    command(b"MULTI"),
    command(b"XADD", b"inbox", b"*", b"entry", b"x" * 300),
    command(b"set", b"record", b"waits"),
    command(b"EXEC"),
]
DATA = SINGLE + b"".join(TRANSACTION) + SINGLE


def test_every_command_is_found_and_a_torn_last_one_is_not() -> None:
    found = list(commands(DATA))
    assert [c.name for c in found] == [b"SET", b"MULTI", b"XADD", b"SET", b"EXEC", b"SET"]
    assert [DATA[c.start : c.end] for c in found] == [SINGLE, *TRANSACTION, SINGLE]
    for end in range(len(DATA)):
        whole = list(commands(DATA[:end]))
        assert whole == found[: len(whole)]
        assert not whole or whole[-1].end <= end
        assert len(whole) == len(found) or found[len(whole)].end > end


@pytest.mark.parametrize("data", [b"#TS:1\r\n", b"SET a b\r\n", b"*1\r\n:1\r\n", b"*x\r\n"])
def test_what_is_no_command_is_told(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(commands(data))


def test_a_transaction_ends_with_exec_or_with_the_file() -> None:
    [whole] = transactions(commands(DATA))
    assert [c.name for c in whole] == [b"MULTI", b"XADD", b"SET", b"EXEC"]
    [torn] = transactions(commands(DATA[: len(SINGLE + TRANSACTION[0] + TRANSACTION[1]) + 5]))
    assert [c.name for c in torn] == [b"MULTI", b"XADD"]


def test_a_cut_strikes_what_it_says() -> None:
    chance = random.Random(1)
    cuts = [choose_cut(DATA, chance) for _ in range(2_000)]
    struck = Counter(cut.where for cut in cuts if cut is not None)
    assert sum(struck.values()) == 2_000
    assert struck["within a transaction"] > 1_000
    assert min(struck["between its commands"], struck["anywhere"]) > 100
    inside = [c for found in transactions(commands(DATA)) for c in found[1:]]
    reached = set()
    for cut in cuts:
        assert cut is not None
        assert 0 <= cut.at < len(DATA)
        if cut.where == "within a transaction":
            [hit] = [c for c in inside if c.start < cut.at < c.end]
            reached.add(hit.start)
        elif cut.where == "between its commands":
            assert cut.at in {c.start for c in inside}
    assert reached == {c.start for c in inside}, "each command of a transaction is struck"


def test_nothing_is_cut_where_nothing_came() -> None:
    assert choose_cut(b"", random.Random(1)) is None
    cut = choose_cut(SINGLE, random.Random(1))
    assert cut is not None
    assert cut.where == "anywhere"


def test_the_newest_file_is_the_manifests_last_one(tmp_path: Path) -> None:
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text("file a.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n")
    assert newest(tmp_path) == folder / "a.1.incr.aof"
    with manifest.open("a") as file:
        file.write("file a.2.incr.aof seq 2 type i\n")
    assert newest(tmp_path) == folder / "a.2.incr.aof"
    manifest.write_text("file a.base.rdb seq 1 type b\n")
    with pytest.raises(ValueError):
        newest(tmp_path)
