"""Line deltas are those of real `git diff --numstat`, and no pair of texts takes long."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.judge import GIT_ENVIRONMENT
from worker.store.repository import line_delta
from worker.store.repository.backup import decode_text
from worker.store.repository.line_delta import compute_line_delta, count_changed_lines

#: Every character that `splitlines` breaks at, and some that only look so.
_ENDS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
_words = st.sampled_from(["", " ", "a", "add", "\0", "\udcff", "\ud800", "\x1f", "é", "\\", "€"])
_lines = st.lists(_words, max_size=3).map("".join)
_texts = st.lists(st.tuples(_lines, st.sampled_from([*_ENDS, ""])), max_size=30).map(
    lambda parts: "".join(line + end for line, end in parts)
)


_NUMSTAT = "git -c core.attributesFile=attributes diff --no-index --numstat old new"


def numstat(folder: Path, old: str, new: str) -> tuple[int, int]:
    """What git counts between two files that hold the lines of two texts."""
    # `--numstat` has no `--text`: an attribute tells git that NUL bytes make no binary.
    (folder / "attributes").write_text("* diff\n")
    for name, text in (("old", old), ("new", new)):
        lines = "".join(f"{line}\n" for line in text.splitlines())
        (folder / name).write_bytes(lines.encode("utf-8", "surrogatepass"))
    done = subprocess.run(
        _NUMSTAT.split(),
        cwd=folder,
        capture_output=True,
        env=GIT_ENVIRONMENT,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    if not done.stdout:
        return 0, 0
    added, removed, _names = done.stdout.split(b"\t")
    return int(added), int(removed)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(old=_texts, new=_texts)
def test_equals_git_on_any_texts(tmp_path: Path, old: str, new: str) -> None:
    assert compute_line_delta(old, new) == numstat(tmp_path, old, new)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 400), distinct=st.integers(1, 400))
def test_equals_git_on_edited_exports(tmp_path: Path, seed: int, size: int, distinct: int) -> None:
    rng = random.Random(seed)
    old = [f"add address=10.0.0.{rng.randrange(distinct)}" for _ in range(size)]
    new = list(old)
    for _ in range(rng.randrange(1, 40)):
        at = rng.randrange(len(new) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            new.insert(at, f"add address=10.0.1.{rng.randrange(distinct)}")
        elif kind == 1:
            del new[at : at + rng.randrange(5)]
        elif kind == 2:
            new[at:at] = rng.sample(old, min(len(old), 3))
        else:
            block = new[at : at + 10]
            del new[at : at + 10]
            new.extend(block)
    texts = "\r\n".join(old), "\n".join(new)
    assert compute_line_delta(*texts) == numstat(tmp_path, *texts)


_bytes = st.lists(
    st.binary(max_size=3)
    | st.sampled_from([b"\n", b"\r\n", b"\r", b"\r\r\n", b"\xc2\x85", b"\xe2\x80\xa8", b"\x85"])
    | st.sampled_from([b"a", b"add", b"\xc3\xa9", b"\xe2\x82\xac", b"\x1c", b"\v"]),
    max_size=30,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(old=_bytes, new=_bytes)
def test_bytes_are_counted_as_the_texts_that_they_hold(old: bytes, new: bytes) -> None:
    texts = decode_text(old), decode_text(new)
    assert count_changed_lines(old, new) == compute_line_delta(*texts)


def test_the_first_version_adds_every_line() -> None:
    assert compute_line_delta("", "a\nb\nc") == (3, 0)
    assert compute_line_delta("a\nb\nc", "") == (0, 3)
    assert compute_line_delta("", "") == (0, 0)
    assert compute_line_delta("", "\n") == (1, 0)
    assert compute_line_delta("a\r\nb", "a\nb\n") == (0, 0)


def _unrelated(kind: str) -> tuple[str, str]:
    rng = random.Random(kind)
    count = 20_000
    if kind == "distinct":
        old, new = ([f"{side} {i}" for i in range(count)] for side in "ab")
    elif kind == "permuted":
        old = [f"line {i}" for i in range(count)]
        new = rng.sample(old, count)
    elif kind == "reversed":
        old = [f"line {i}" for i in range(count)]
        new = old[::-1]
    elif kind == "few distinct":
        old, new = ([f"line {rng.randrange(50)}" for _ in range(count)] for _ in "ab")
    else:
        old, new = ([f"line {rng.randrange(count)}" for _ in range(count)] for _ in "ab")
    return "\n".join(old), "\n".join(new)


@pytest.mark.parametrize(
    "kind", ["distinct", "permuted", "reversed", "few distinct", "many distinct"]
)
def test_unrelated_texts_of_20000_lines_take_under_100_ms(kind: str) -> None:
    old, new = _unrelated(kind)
    best_s = float("inf")
    for _ in range(5):
        started_s = time.thread_time()
        added, removed = compute_line_delta(old, new)
        best_s = min(best_s, time.thread_time() - started_s)
    assert added == removed > 10_000
    assert best_s < 0.1


@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.sampled_from([b"a", b"bb", b"\r", b"\n", b"\r\n", b"#"])).map(b"".join))
def test_a_large_text_has_the_lines_of_a_small_one(data: bytes) -> None:
    known: dict[bytes, bytes] = {}
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr(line_delta, "_LARGE_BYTES", 0)
        limits.setattr(line_delta, "_PIECE_BYTES", 3)
        lines = line_delta._lines_of(data, known)
    assert lines == data.splitlines()
    assert {id(line) for line in lines} == {id(line) for line in known.values()}


def _with_frequent_lines(rng: random.Random) -> tuple[str, str]:
    """Two texts that share lines, some of them very often, each with lines of its own between."""
    often = ["}", "", "exit"][: rng.choice([1, 2, 3])]
    share = rng.choice([0.5, 0.9, 1])
    common = [
        rng.choice(often) if rng.random() < share else f"common {number}"
        for number in range(rng.choice([30, 80, 200]))
    ]

    def spread(side: str, chance: float, run: int) -> str:
        lines = []
        for number, line in enumerate(common):
            if rng.random() < chance:
                lines += [f"{side} {number} {more}" for more in range(rng.randrange(1, run))]
            lines.append(line)
        return "\n".join(lines)

    return (
        spread("old", rng.choice([0, 0.1, 0.5, 0.9]), rng.choice([2, 4, 12])),
        spread("new", rng.choice([0.1, 0.5, 0.9]), rng.choice([2, 4, 12])),
    )


def test_lines_that_stand_very_often_are_counted_as_git_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git may set such a line aside although both texts have it, and then calls it changed."""
    rng = random.Random(5)
    texts = [_with_frequent_lines(rng) for _ in range(600)]
    counted = [compute_line_delta(*pair) for pair in texts]
    monkeypatch.setattr(line_delta, "_count_distinct", lambda *_lines: None)
    assert counted == [compute_line_delta(*pair) for pair in texts]
    monkeypatch.undo()
    monkeypatch.setattr(line_delta, "_rare", lambda *_arguments: True)
    odd = [n for n, pair in enumerate(texts) if compute_line_delta(*pair) != counted[n]]
    assert odd, "no text here is one of which git sets lines aside"
    for number in odd[:5]:
        assert counted[number] == numstat(tmp_path, *texts[number])
