"""A diff as rows: numbers, marks within lines, moved blocks, two columns."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.diff import hunks
from worker.http.pages.changes import Hunk, counts_of, hunks_of

_lines = st.lists(st.sampled_from(["a", "b", "c=1", "c=2", "long line " * 3, ""]), max_size=12)


def rows(old: str, new: str, context: int = 3) -> list[Hunk]:
    return hunks_of(hunks(old.encode(), new.encode(), context).decode())


@given(_lines, _lines)
@settings(max_examples=200, deadline=None)
def test_the_rows_are_the_two_texts(old: list[str], new: list[str]) -> None:
    """With all context, the left column is the old text, and the right one the new text."""
    texts = ["".join(f"{line}\n" for line in lines) for lines in (old, new)]
    found = rows(texts[0], texts[1], context=1_000)
    if texts[0] == texts[1]:
        assert found == []
        return
    [hunk] = found
    pairs = list(hunk.pairs)
    left = [pair.left for pair in pairs if pair.left is not None]
    right = [pair.right for pair in pairs if pair.right is not None]
    assert [line.text for line in left] == old
    assert [line.text for line in right] == new
    assert [line.old for line in left] == list(range(1, len(old) + 1))
    assert [line.new for line in right] == list(range(1, len(new) + 1))
    both = [line.text for line in hunk.lines if line.kind != "new"]
    assert both == old


def test_what_changed_within_a_line_is_marked() -> None:
    [hunk] = rows(
        "add chain=input port=22 action=accept\n", "add chain=input port=23 action=drop\n"
    )
    marked = [[piece.text for piece in line.pieces if piece.marked] for line in hunk.lines]
    assert marked == [["22", "accept"], ["23", "drop"]]
    assert counts_of([hunk]) == (1, 1)


def test_lines_that_share_nothing_are_not_marked_piece_by_piece() -> None:
    [hunk] = rows("/ip dns set servers=1.1.1.1\n", "completely other words\n")
    assert [len(line.pieces) for line in hunk.lines] == [1, 1]


def test_a_block_that_moved_says_where_to() -> None:
    block = "add chain=forward comment=first\nadd chain=forward comment=second\n"
    rest = "".join(f"add chain=input comment={n}\n" for n in range(9))
    found = rows(block + rest, rest + block)
    moved = [line for hunk in found for line in hunk.lines if line.moved is not None]
    assert [(line.kind, line.moved) for line in moved] == [
        *(("old", 10), ("old", 11)),
        *(("new", 1), ("new", 2)),
    ]


def test_one_short_line_that_comes_again_did_not_move() -> None:
    rest = "".join(f"add chain=input comment={n}\n" for n in range(9))
    found = rows("}\n" + rest, rest + "}\n")
    assert {line.moved for hunk in found for line in hunk.lines} == {None}


def test_a_section_stands_above_its_hunk_and_a_missing_line_end_is_told() -> None:
    [hunk] = rows("/ip address\nadd address=10.0.0.1\n", "/ip address\nadd address=10.0.0.2")
    assert hunk.section == "/ip address"
    assert [line.unended for line in hunk.lines] == [False, False, True]


def test_large_differences_take_little_time() -> None:
    old = "".join(f"add address=10.{n % 200}.{n}.1/24 interface=ether{n}\n" for n in range(5_000))
    diff = hunks(old.encode(), old.replace("ether", "sfp").encode()).decode()
    began = time.process_time()
    found = hunks_of(diff)
    assert sum(len(hunk.lines) for hunk in found) == 10_000
    # On a quiet machine a tenth of this.
    assert time.process_time() - began < 3.0
