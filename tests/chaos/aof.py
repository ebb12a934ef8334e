"""Where a power cut may have ended a server's append-only file."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.append_only import commands, transactions

#: What a cut strikes, and how often against the others. The server takes a transaction back as a whole
#: when its file ends between two of its commands. When it ends within one, it keeps those before: they
#: come back at the next start. The file may also end where nothing is special.
_WHERE = {"within a transaction": 6, "between its commands": 1, "anywhere": 1}


@dataclass(frozen=True, slots=True)
class Cut:
    """The length that is left of the bytes, and what was struck."""

    at: int
    where: str


def choose_cut(data: bytes, chance: random.Random) -> Cut | None:
    """Where to cut `data`, all of which may go; None if there is nothing to cut.

    Raises:
        ValueError: as `append_only.commands`.
    """
    if not data:
        return None
    # Most often one that writes much: kombu's own are short and many.
    long_ones = [found for found in transactions(commands(data)) if len(found) > 1]
    [where] = chance.choices(list(_WHERE), list(_WHERE.values()))
    if where == "anywhere" or not long_ones:
        return Cut(chance.randrange(len(data)), "anywhere")
    [struck] = chance.choices(long_ones, [len(found) for found in long_ones])
    command = chance.choice(struck[1:])
    if where == "between its commands":
        return Cut(command.start, where)
    return Cut(chance.randrange(command.start + 1, command.end), where)
