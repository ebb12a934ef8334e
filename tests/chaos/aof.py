"""A server's append-only file: its commands, and where a power cut may have ended it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: What a cut strikes, and how often against the others. The server takes a transaction back as a whole
#: when its file ends between two of its commands. When it ends within one, it keeps those before: they
#: come back at the next start. The file may also end where nothing is special.
_WHERE = {"within a transaction": 6, "between its commands": 1, "anywhere": 1}


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the file: its name in capitals, and the bytes that it takes."""

    name: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The length that is left of the bytes, and what was struck."""

    at: int
    where: str


def newest_file(data: Path) -> Path:
    """The file that a server with its data in `data` appends to.

    Raises:
        ValueError: its manifest names none.
    """
    folder = data / "appendonlydir"
    found = ""
    for line in (folder / "appendonly.aof.manifest").read_text().splitlines():
        words = line.split()
        values = dict(zip(words[::2], words[1::2], strict=True))
        if values["type"] == "i":
            found = values["file"]
    if not found:
        raise ValueError(f"no file to append to in {folder}")
    return folder / found


def commands(data: bytes) -> Iterator[Command]:
    """Each whole command of `data`, which begins where a command begins.

    Raises:
        ValueError: there is something else than commands.
    """
    at = 0
    while at < len(data):
        start, name = at, b""
        number, at = _number(data, at, b"*")
        for position in range(number):
            length, at = _number(data, at, b"$")
            if at < 0 or at + length + 2 > len(data):
                return
            if position == 0:
                name = data[at : at + length].upper()
            at += length + 2
        if at < 0:
            return
        yield Command(name, start, at)


def transactions(found: Iterator[Command]) -> list[list[Command]]:
    """The commands of each transaction, from MULTI to EXEC or to the end."""
    all_of_them: list[list[Command]] = []
    is_open = False
    for command in found:
        if command.name == b"MULTI":
            all_of_them.append([])
            is_open = True
        if is_open:
            all_of_them[-1].append(command)
        is_open = is_open and command.name != b"EXEC"
    return all_of_them


def choose_cut(data: bytes, chance: random.Random) -> Cut | None:
    """Where to cut `data`, all of which may go; None if there is nothing to cut.

    Raises:
        ValueError: as `commands`.
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


def _number(data: bytes, at: int, sign: bytes) -> tuple[int, int]:
    """The number that stands there behind its sign, and where it ends; -1 when the data ends before."""
    if at < 0 or at >= len(data):
        return 0, -1
    if data[at : at + 1] != sign:
        raise ValueError(f"no {sign.decode()} at byte {at}")
    end = data.find(b"\r\n", at)
    if end < 0:
        return 0, -1
    return int(data[at + 1 : end]), end + 2
