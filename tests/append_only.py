"""The server's append-only file as the commands that it holds: found, read and played again."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

Command = list[bytes]


@dataclass(frozen=True, slots=True)
class Written:
    """A command, and where it begins and ends in the file."""

    command: Command
    start: int
    end: int

    @property
    def name(self) -> bytes:
        return self.command[0].upper()


def newest(data: Path) -> Path:
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


def read(path: Path, start: int = 0) -> list[Written]:
    """The commands from the byte `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        return list(commands(file.read(), start))


def commands(data: bytes, start: int = 0) -> Iterator[Written]:
    """Each whole command of `data`, which begins where a command begins, at the byte `start` of the file.

    Raises:
        ValueError: there is something else than commands.
    """
    file = io.BytesIO(data)
    while (begin := file.tell()) < len(data):
        try:
            command = [_word(file) for _ in range(_number(file, b"*"))]
        except EOFError:
            return
        yield Written(command, start + begin, start + file.tell())


def _word(file: io.BytesIO) -> bytes:
    size = _number(file, b"$")
    word = file.read(size + 2)
    if len(word) < size + 2:
        raise EOFError
    return word[:size]


def _number(file: io.BytesIO, sign: bytes) -> int:
    line = file.readline()
    if line and not line.startswith(sign):
        raise ValueError(f"no {sign.decode()} before byte {file.tell()}")
    if not line.endswith(b"\r\n"):
        raise EOFError
    return int(line[1:])


def transactions(found: Iterable[Written]) -> list[list[Written]]:
    """The commands of each transaction, from MULTI to EXEC or to the end."""
    all_of_them: list[list[Written]] = []
    is_open = False
    for one in found:
        if one.name == b"MULTI":
            all_of_them.append([])
            is_open = True
        if is_open:
            all_of_them[-1].append(one)
        is_open = is_open and one.name != b"EXEC"
    return all_of_them


def play(client: redis.Redis, commands: Sequence[Command]) -> None:
    """Let the server hold what these commands leave and nothing else, as at its start.

    A transaction whose EXEC is missing takes in what follows, MULTI and all, until the next EXEC: so
    all commands run in their order, and those that fail do nothing.
    """
    client.flushall()
    skipped = (b"MULTI", b"EXEC", b"SELECT", b"FLUSHALL")
    pipe = client.pipeline(transaction=False)
    for command in commands:
        if command[0].upper() not in skipped:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
    pipe.execute(raise_on_error=False)
