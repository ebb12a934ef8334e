"""The server's append-only file as the commands that it holds: read, cut and played again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

Command = list[bytes]


@dataclass(frozen=True)
class Written:
    """A command and where it begins and ends in the file."""

    command: Command
    start: int
    end: int

    @property
    def name(self) -> bytes:
        return self.command[0].upper()


def newest(folder: Path) -> Path:
    """The file that a server with its data in `folder` writes to."""
    return max(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.suffixes[-3][1:]))


def read(path: Path, start: int = 0) -> list[Written]:
    """The commands from the byte `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    found = []
    at = 0
    while at < len(data):
        begin = at
        end = data.index(b"\r\n", at)
        words, at = int(data[at + 1 : end]), end + 2
        command = []
        for _ in range(words):
            end = data.index(b"\r\n", at)
            size = int(data[at + 1 : end])
            command.append(data[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        found.append(Written(command, start + begin, start + at))
    return found


def transaction(commands: Sequence[Written]) -> tuple[int, int]:
    """Where the last transaction is: the numbers of its MULTI and of its EXEC."""
    last = max(n for n, one in enumerate(commands) if one.name == b"EXEC")
    return max(n for n in range(last) if commands[n].name == b"MULTI"), last


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
