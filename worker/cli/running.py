"""Finds a running `confkeep up` by a small file in its data folder."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confkeep import modes
from confkeep.urls import DEFAULT_REDIS_URL
from worker.cli.terminal import Terminal

if TYPE_CHECKING:
    from confkeep.settings import Settings

#: The default data folder of `up`.
DEFAULT_DATA: Final = Path("confkeep-data")

#: What to do where one has ended.
START_AGAIN: Final = "`confkeep up` of this folder has ended: start it again with `confkeep up`, in a terminal that stays open."

_FILE: Final = "up.json"
#: Beside it; holds the process of the newest `up`, and stays when that ends.
LOCK: Final = "up.lock"
#: The same as in the settings; copied because `confkeep.settings` takes long to import.
_ENV_FILE: Final = Path(".env")
#: Seconds for a server on this machine to answer.
_ANSWER_S: Final = 1.0
#: Either of these chooses a store.
_STORES: Final = ("CONFKEEP_GIT_STORE_PATH", "GIT_STORE_PATH")
#: If one of these is set, the user has chosen a server or a store.
_CHOICES: Final = ("CONFKEEP_REDIS_URL", *_STORES)


@dataclass(frozen=True, slots=True)
class RunningUp:
    """A running `confkeep up`, and how to reach its server and store."""

    pid: int
    socket: str
    store: str

    @property
    def url(self) -> str:
        """The value of CONFKEEP_REDIS_URL."""
        return f"unix://{self.socket}?db=0"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which other commands reach it."""
        return {"CONFKEEP_REDIS_URL": self.url, "CONFKEEP_GIT_STORE_PATH": self.store}

    def write(self, data: Path) -> None:
        """Let other commands find it."""
        temporary = data / f"{_FILE}.new"
        descriptor = modes.create(temporary, os.O_WRONLY | os.O_TRUNC)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        temporary.replace(data / _FILE)

    def answers(self) -> bool:
        """Whether the server answers; uses a bare socket, since redis-py takes long to import."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_ANSWER_S)
                client.connect(self.socket)
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def forget(data: Path) -> None:
    """Remove the file, so that no command finds it any more."""
    (data / _FILE).unlink(missing_ok=True)


def find(data: Path) -> RunningUp | None:
    """The `confkeep up` that runs on this data folder; None if none does."""
    found = _read(data)
    return found if found is not None and found.answers() else None


def has_ended() -> bool:
    """Whether a `confkeep up` ran in the current folder, and has ended.

    False too where the user has chosen a server or a store.
    """
    if _is_chosen():
        return False
    try:
        pid = int((DEFAULT_DATA / LOCK).read_text(encoding="ascii"))
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


def _read(data: Path) -> RunningUp | None:
    try:
        return RunningUp(**json.loads((data / _FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def probe_variable(name: str) -> str | None:
    """A variable of the environment or `.env`, for probes: reading all settings takes too long."""
    if name in os.environ:
        return os.environ[name] or None
    # An unreadable file is reported where all settings are read.
    with suppress(OSError, UnicodeDecodeError):
        if _ENV_FILE.is_file():
            # Importing it takes half of a probe's time, and few have the file.
            from dotenv import dotenv_values

            return dotenv_values(_ENV_FILE, encoding="utf-8").get(name) or None
    return None


def store_is_chosen() -> bool:
    """Whether a variable says where the store is."""
    return any(probe_variable(name) for name in _STORES)


def _is_chosen() -> bool:
    return any(probe_variable(name) for name in _CHOICES)


def probe_url() -> str:
    """The server's address that `adopt` and the settings would give. Does not connect to it."""
    chosen = probe_variable("CONFKEEP_REDIS_URL")
    if chosen is None and not _is_chosen():
        found = _read(DEFAULT_DATA)
        if found is not None:
            return found.url
    return chosen or DEFAULT_REDIS_URL


def adopt(terminal: Terminal) -> None:
    """Use a `confkeep up` that runs in the current folder, unless the user has chosen a server or store.

    Call it before the settings are read.
    """
    if _is_chosen():
        return
    found = find(DEFAULT_DATA)
    if found is not None:
        os.environ.update(found.environment)
        terminal.note(f"using `confkeep up` of {DEFAULT_DATA}/ (process {found.pid})")


def settings(terminal: Terminal) -> Settings:
    """The settings, of a `confkeep up` that runs in the current folder where `adopt` finds one."""
    # Takes long to import, which a probe does without.
    from confkeep.settings import get_settings

    adopt(terminal)
    return get_settings()
