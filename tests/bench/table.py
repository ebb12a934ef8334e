"""What a row of the benchmark's table is, and how two contenders are timed side by side."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Rounds of each measurement; the medians count.
ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a ratio, what it should at least be, and the figures behind it."""

    name: str
    ratio: float
    #: The bound that the project sets itself, and what it aims at; None: there is none.
    bound: float | None
    aim: float | None = None
    #: Whether a smaller ratio is the better one.
    smaller_is_better: bool = False
    #: The absolute figures of this machine.
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the ratio keeps the bound."""
        if self.bound is None:
            return True
        return self.ratio <= self.bound if self.smaller_is_better else self.ratio >= self.bound

    def as_cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        sign = "at most " if self.smaller_is_better else ""
        return (
            self.name,
            _times(self.ratio),
            "" if self.bound is None else sign + _times(self.bound),
            "" if self.aim is None else _times(self.aim),
            "" if self.holds else "short",
            self.detail,
        )


def at_most(
    name: str,
    ratio: float,
    bound: float | None = 1,
    aim: float | None = None,
    *,
    detail: str = "",
) -> Row:
    """A row of which a smaller ratio is the better one."""
    return Row(name, ratio, bound, aim, smaller_is_better=True, detail=detail)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def alternate(
    contenders: Sequence[Callable[[], float]], rounds: int = ROUNDS
) -> list[tuple[float, ...]]:
    """Run the contenders in turns; each gives what its round cost. One tuple for each round."""
    return [tuple(contender() for contender in contenders) for _ in range(rounds)]


def median_costs(rounds: Sequence[tuple[float, ...]]) -> list[float]:
    """Each contender's median over the rounds."""
    return [statistics.median(costs) for costs in zip(*rounds, strict=True)]


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def processors_s() -> float:
    """Seconds that this process and its ended children had of processors so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows as a table in Markdown."""
    heads = ("row", "measured", "at least", "aim", "", "figures")
    cells = [heads, tuple("-" * len(head) or "-" for head in heads), *(r.as_cells() for r in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |")
