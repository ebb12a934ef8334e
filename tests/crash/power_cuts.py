"""The states that power cuts in a run of processes may leave, each once, and what a judge says of them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash import strace
from tests.crash.posix import Disk, State, digest_of, materialise


@dataclass(frozen=True)
class Cut:
    """A state, and when it may be left."""

    #: The call after which it may be left.
    after: str
    #: The lines `ACK ...` that were written before.
    acknowledged: tuple[str, ...]
    #: Whether it is what a kill of all processes leaves: nothing that was done is undone.
    kill: bool
    #: Whether all is undone that was not synced.
    undone: bool
    state: State


#: Says what is wrong with a state that was made below a folder, after these acknowledgements.
Judge = Callable[[Path, Sequence[str]], str | None]


def traced(
    commands: Sequence[Sequence[str]], root: Path, nameless: Sequence[str] = ("/tmp_",)
) -> list[Cut]:
    """The states that power cuts in these runs may leave of a folder, which has its present state before.

    Those that differ, in the order of the calls; of each moment what a kill leaves first.

    Args:
        nameless: what temporary files have in their paths: what they hold is nobody's concern until they have
            their names.
    """
    strace.need_strace()
    # The index is derived, and SQLite stores through memory maps that no log shows.
    disk = Disk(root, ignored=["confkeep.index"])
    found: list[Cut] = []
    chance, seen, acknowledged = random.Random(1), set[bytes](), tuple[str, ...]()
    for number, call in enumerate(strace.trace(commands, root.with_name("strace.log"))):
        if call.name == "write" and call.strings[0].startswith(b"ACK"):
            acknowledged = (*acknowledged, call.strings[0].decode())
        elif not disk.apply(call):
            continue
        for place, state in enumerate(disk.states(chance)):
            known = {
                path: data
                for path, data in state.items()
                if not any(mark in path for mark in nameless)
            }
            digest = digest_of(known) + bytes([len(acknowledged)])
            if digest not in seen:
                seen.add(digest)
                after = f"call {number} ({call.name})"
                found.append(Cut(after, acknowledged, place == 0, place == 1, state))
    return found


def sample(cuts: Sequence[Cut], most: int) -> list[Cut]:
    """Those in which all is undone, and of the others at most so many, half of them left by kills."""
    chance = random.Random(2)
    kills = [cut for cut in cuts if cut.kill]
    others = [cut for cut in cuts if not cut.kill and not cut.undone]
    chosen = [cut for cut in cuts if cut.undone]
    for some in (kills, others):
        chosen += chance.sample(some, min(len(some), most // 2))
    return chosen


def problems_of(cuts: Iterable[Cut], judge: Judge, fresh: Path) -> Iterator[str]:
    """What is wrong with each bad state.

    Args:
        fresh: a folder in which no state was made before.
    """
    for number, cut in enumerate(cuts):
        where = fresh / str(number)
        materialise(cut.state, where)
        problem = judge(where, cut.acknowledged)
        shutil.rmtree(where)
        if problem is not None:
            yield f"after {cut.after}: {problem}"
