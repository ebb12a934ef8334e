"""The hunks of a diff as rows of a page: sections, line numbers, marks within lines, moved blocks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import compress, count, groupby, zip_longest
from operator import ne
from typing import Final, Literal, NamedTuple

#: A block of removed and added lines is recognised as moved from so many lines on, and so many characters:
#: fewer are alike by chance.
_MOVED_LINES: Final = 2
_MOVED_CHARACTERS: Final = 30
#: Lines longer than this get one mark for all between what they begin and end with alike.
_TOKENS: Final = 200
#: Lines that share less than this are shown as different lines, not as one that was changed.
_ALIKE: Final = 0.3
#: Pairs of lines of one diff that are looked at token by token; each takes up to a millisecond.
_PAIRS: Final = 400

_HEAD: Final = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)")
_TOKEN: Final = re.compile(r"\w+|\s+|.", re.DOTALL)

Kind = Literal["same", "old", "new"]


class Piece(NamedTuple):
    """A part of a line."""

    text: str
    #: Whether it differs from the line on the other side.
    marked: bool


@dataclass(slots=True)
class Line:
    """A line of one text, or of both."""

    kind: Kind
    old: int | None
    new: int | None
    pieces: list[Piece]
    #: It stands elsewhere in the other text: the number of its line there.
    moved: int | None = None
    #: The text ends here without a line end.
    unended: bool = False

    @property
    def text(self) -> str:
        """The whole line."""
        one, *more = self.pieces
        return "".join(piece.text for piece in self.pieces) if more else one.text


class Pair(NamedTuple):
    """A row of two columns."""

    left: Line | None
    right: Line | None


@dataclass(frozen=True, slots=True)
class Hunk:
    """Changed lines and those around them."""

    #: The number of its first line in the new text.
    new_start: int
    #: The RouterOS section of the first change; empty if there is none.
    section: str
    lines: list[Line]

    @property
    def pairs(self) -> Iterator[Pair]:
        """The hunk in two columns: the old text on the left, the new one on the right."""
        for olds, news in _runs(self.lines):
            if olds is news:
                yield from (Pair(line, line) for line in olds)
            else:
                yield from map(Pair._make, zip_longest(olds, news))


def hunks_of(diff: str) -> list[Hunk]:
    """Reads the hunks of a unified diff, as `worker.engine.diff.hunks` writes them."""
    found: list[Hunk] = []
    old = new = 0
    for text in diff.split("\n")[:-1] if diff.endswith("\n") else diff.split("\n"):
        head = _HEAD.match(text) if text.startswith("@@") else None
        if head is not None:
            old, new = int(head[1]), int(head[2])
            found.append(Hunk(new, head[3].rstrip("\r"), []))
            continue
        if not found or not text:
            continue
        lines, sign, body = found[-1].lines, text[0], text[1:].removesuffix("\r")
        if sign == "\\":
            if lines:
                lines[-1].unended = True
            continue
        if sign == "-":
            lines.append(Line("old", old, None, [Piece(body, False)]))
        elif sign == "+":
            lines.append(Line("new", None, new, [Piece(body, False)]))
        else:
            lines.append(Line("same", old, new, [Piece(body, False)]))
        old += sign != "+"
        new += sign != "-"
    _find_moved(found)
    _mark_changes(found)
    return found


def counts_of(hunks: Sequence[Hunk]) -> tuple[int, int]:
    """How many lines were added and removed."""
    kinds = [line.kind for hunk in hunks for line in hunk.lines]
    return kinds.count("new"), kinds.count("old")


def _runs(lines: Sequence[Line]) -> Iterator[tuple[list[Line], list[Line]]]:
    """Runs of removed lines with the added ones behind them; a run that is in both comes as itself, twice."""
    for is_same, group in groupby(lines, lambda line: line.kind == "same"):
        run = list(group)
        if is_same:
            yield run, run
        else:
            yield (
                [each for each in run if each.kind == "old"],
                [each for each in run if each.kind == "new"],
            )


def _find_moved(hunks: Sequence[Hunk]) -> None:
    """Note the blocks of removed lines that were added elsewhere, in the same order."""
    olds = [line for hunk in hunks for line in hunk.lines if line.kind == "old"]
    news = [line for hunk in hunks for line in hunk.lines if line.kind == "new"]
    places: dict[str, list[int]] = defaultdict(list)
    for at, line in enumerate(news):
        places[line.text].append(at)
    at = 0
    while at < len(olds):
        best, length = -1, 0
        # A line that stands in many places tells nothing about where a block went.
        for place in places.get(olds[at].text, ())[:8]:
            count = _alike(olds, at, news, place)
            if count > length:
                best, length = place, count
        text = sum(len(line.text.strip()) for line in olds[at : at + length])
        if length >= _MOVED_LINES and text >= _MOVED_CHARACTERS:
            for one, other in zip(olds[at : at + length], news[best : best + length], strict=True):
                one.moved, other.moved = other.new, one.old
        at += max(length, 1)


def _alike(olds: Sequence[Line], at: int, news: Sequence[Line], place: int) -> int:
    """How many lines from there on are the same, stand behind each other, and are not taken yet."""
    count = 0
    while (
        at + count < len(olds)
        and place + count < len(news)
        and news[place + count].moved is None
        and olds[at + count].text == news[place + count].text
        and olds[at + count].old == (olds[at].old or 0) + count
        and news[place + count].new == (news[place].new or 0) + count
    ):
        count += 1
    return count


def _mark_changes(hunks: Sequence[Hunk]) -> None:
    """Mark what differs within lines that were changed."""
    left = _PAIRS
    for hunk in hunks:
        for olds, news in _runs(hunk.lines):
            if olds is news:
                continue
            for old, new in zip(olds, news, strict=False):
                if old.moved is None and new.moved is None:
                    left -= 1
                    old.pieces, new.pieces = _marked(old.text, new.text, closely=left >= 0)


def _marked(old: str, new: str, *, closely: bool) -> tuple[list[Piece], list[Piece]]:
    start, stop = _ends(old, new)
    if not closely and start + stop < _ALIKE * max(len(old), len(new), 1):
        return [Piece(old, False)], [Piece(new, False)]
    olds, news = _TOKEN.findall(old), _TOKEN.findall(new)
    if not closely or max(len(olds), len(news)) > _TOKENS:
        return _middle(old, start, stop), _middle(new, start, stop)
    matcher = SequenceMatcher(None, olds, news, autojunk=False)
    if matcher.ratio() < _ALIKE:
        return [Piece(old, False)], [Piece(new, False)]
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a, b, c, d in matcher.get_opcodes():
        for pieces, text in ((left, "".join(olds[a:b])), (right, "".join(news[c:d]))):
            if text:
                pieces.append(Piece(text, tag != "equal"))
    return left, right


def _ends(old: str, new: str) -> tuple[int, int]:
    """How many characters both begin with alike, and then end with alike."""
    most = min(len(old), len(new))
    start = next(compress(count(), map(ne, old, new)), most)
    stop = next(compress(count(), map(ne, reversed(old), reversed(new))), most)
    return start, min(stop, most - start)


def _middle(text: str, start: int, stop: int) -> list[Piece]:
    pieces = [
        Piece(text[:start], False),
        Piece(text[start : len(text) - stop], True),
        Piece(text[len(text) - stop :], False),
    ]
    return [piece for piece in pieces if piece.text]
