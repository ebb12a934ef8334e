"""Secrets that tests plant, and the search for them, and for all that was backed up, in every log.

A deployment's logs are searched when it ends, for the secrets and for what its repositories hold:
each kept export, binary and message is one that no log may repeat. When the whole run ends, all
logs that it left are searched for the secrets again.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pygit2

#: Stands in the passwords and payloads that tests plant.
SECRET: Final = "planted-secret-9f3c"

#: Objects of a repository, and lines of an object, that are looked for.
_OBJECTS: Final = 60
_LINES: Final = 12
#: Bytes at its beginning in which these lines are.
_BEGINNING: Final = 64 * 1024
#: Shorter ones stand in logs by chance.
_SHORTEST: Final = 12


def forms_of(text: str) -> set[bytes]:
    """How a log may show a text: as it is, quoted, in hexadecimal, or within a base64 text."""
    plain = text.encode()
    forms = {plain, plain.hex().encode(), quote(text).encode()}
    for before in range(3):
        # Without the characters that the neighbours decide.
        encoded = base64.b64encode(b"\0" * before + plain)
        forms.add(encoded[4 if before else 0 : len(encoded) - 4])
    return forms


def logs_below(folder: Path) -> list[Path]:
    """The files of logs below a folder."""
    return sorted(folder.rglob("*.log"))


def assert_no_secrets(logs: Iterable[Path]) -> None:
    """No log holds what tests planted."""
    _assert_none(logs, forms_of(SECRET))


def assert_nothing_repeated(logs: Iterable[Path], store: Path) -> None:
    """No log holds what tests planted, nor anything of what the repositories in `store` keep."""
    _assert_none(logs, forms_of(SECRET) | set(_kept(store)))


def _assert_none(logs: Iterable[Path], needles: Iterable[bytes]) -> None:
    needles = list(needles)
    for log in logs:
        text = log.read_bytes()
        for needle in needles:
            at = text.find(needle)
            assert at < 0, f"{log} repeats {needle!r}: {text[max(0, at - 200) : at + 200]!r}"


def _kept(store: Path) -> Iterator[bytes]:
    for path in sorted(store.glob("*.git")):
        repository = pygit2.Repository(str(path))
        kept = (repository[id_] for id_ in repository)
        wanted = (each for each in kept if isinstance(each, pygit2.Blob | pygit2.Commit))
        for found in itertools.islice(wanted, _OBJECTS):
            if isinstance(found, pygit2.Commit):
                yield from _lines(found.raw_message)
            else:
                data = memoryview(found)[:_BEGINNING].tobytes()
                yield from _lines(data)
                if len(data) >= _SHORTEST:
                    # A log shows bytes as Python writes them, or in base64.
                    yield repr(data[:24])[2:-1].encode()
                    yield base64.b64encode(data[:_SHORTEST])


def _lines(data: bytes) -> Iterator[bytes]:
    for line in itertools.islice(data.splitlines(), _LINES):
        if len(line.strip()) >= _SHORTEST:
            yield line.strip()
