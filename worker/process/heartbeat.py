"""A worker's signs of life: a small file that it maps and marks, and that a probe reads.

The worker's threads mark by the system's monotonic clock when its loop turned, when its sweep came
through and when its store took a write. A mark is a store into mapped memory: it cannot block, and a
full disk cannot stop it. So a probe asks neither Redis nor the store's volume, and answers at once
also when these hang. It loads neither pydantic nor redis-py: a probe runs every few seconds.

    RUN/<12 hex of the server's address>/<node name>

    offset  content
    0       magic, pid, worker index, state; interval of the sweep in s
    64      six doubles: loop turned, sweep done, sweep failed, store written, store failed, a thread met
            an unforeseen error; 0: never
    128     why the sweep failed, 64 bytes        192     why the store failed, 128 bytes
    320     the node's name, 256 bytes
    576     why the server may lose what it acknowledged, 192 bytes; empty: nothing is known
    768     what the thread met, 192 bytes

The worker holds a record lock on the file. Children that it forks do not have it, and the kernel
gives it back however the worker ends: a file without the lock is a dead worker's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import re
import stat
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

_MAGIC: Final = b"confbeat"
_HEAD: Final = struct.Struct("<8sIIIId")
_MARKS: Final = struct.Struct("<6d")
_MARKS_AT: Final = 64
_MARK: Final = struct.Struct("<d")
_TEXTS: Final = {
    "sweep": (128, 64),
    "store": (192, 128),
    "name": (320, 256),
    "broker": (576, 192),
    "trouble": (768, 192),
}
_SIZE: Final = 1024
_STATE_AT: Final = 16


class State(IntEnum):
    """What a worker's main process does."""

    STARTING = 0
    RUNNING = 1
    ENDING = 2


class Mark(IntEnum):
    """What is marked; the number is the mark's index in the file."""

    LOOP = 0
    SWEEP = 1
    SWEEP_FAILED = 2
    STORE = 3
    STORE_FAILED = 4
    TROUBLE = 5


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a worker's file says. Ages in seconds; None if it never happened."""

    name: str
    pid: int
    index: int
    state: State
    sweep_interval_s: float
    loop_age_s: float | None
    sweep_age_s: float | None
    store_age_s: float | None
    #: Why the last try failed; None if it succeeded.
    sweep_error: str | None
    store_error: str | None
    #: The last unforeseen error of a thread, and how long ago; None if there was none.
    trouble: str | None = None
    trouble_age_s: float | None = None
    #: Why the server may lose what it acknowledged; None if nothing is known.
    broker_problem: str | None = None


def run_folder(run_path: Path | None, redis_url: str) -> Path:
    """The folder of the files of a deployment's workers on this machine.

    Args:
        run_path: if None, `confkeep-UID` in `/tmp`.
        redis_url: tells deployments apart. The name depends on no user and no password in it.
    """
    base = run_path or Path(f"/tmp/confkeep-{os.getuid()}")  # noqa: S108 - see `_make_private`
    address = re.sub(r"(?<=//)[^/@;]*@|[?&]sentinel_(username|password)=[^&;]*", "", redis_url)
    return base / hashlib.sha256(address.encode()).hexdigest()[:12]


class Heartbeat:
    """The worker's side. Marks may be set by any thread; the lock belongs to the process.

    Raises:
        OSError: the file cannot be made, or its folder is another user's.
    """

    def __init__(self, folder: Path, name: str, index: int, sweep_interval_s: float) -> None:
        _make_private(folder.parent)
        _make_private(folder)
        _drop_dead(folder)
        self._path = folder / quote(name, safe="@")
        self._path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        # Write the bytes now: a mark must not need space on a full disk.
        os.write(self._descriptor, bytes(_SIZE))
        self._memory = mmap.mmap(self._descriptor, _SIZE)
        self._put_text("name", name)
        head = (os.getpid(), index, State.STARTING, 0, sweep_interval_s)
        _HEAD.pack_into(self._memory, 0, _MAGIC, *head)

    def mark(self, what: Mark, reason: str = "") -> None:
        """Note that `what` happened now.

        Args:
            reason: for a failure, in few words and without any payload.
        """
        if what is Mark.SWEEP_FAILED:
            self._put_text("sweep", reason)
        elif what is Mark.STORE_FAILED:
            self._put_text("store", reason)
        elif what is Mark.TROUBLE:
            self._put_text("trouble", reason)
        _MARK.pack_into(self._memory, _MARKS_AT + what * _MARK.size, time.monotonic())

    def note_broker(self, problem: str) -> None:
        """Note why the server may lose what it acknowledged; empty: nothing is known."""
        self._put_text("broker", problem)

    def enter(self, state: State) -> None:
        struct.pack_into("<I", self._memory, _STATE_AT, state)

    def close(self) -> None:
        """Remove the file, unless another worker of the same name has replaced it."""
        try:
            if self._path.stat().st_ino == os.fstat(self._descriptor).st_ino:
                self._path.unlink()
        except FileNotFoundError:
            pass
        with contextlib.suppress(OSError):  # another worker's file is in it
            self._path.parent.rmdir()
        # The mapping stays: a thread may mark once more.
        os.close(self._descriptor)

    def _put_text(self, which: str, text: str) -> None:
        start, size = _TEXTS[which]
        data = text.encode("utf-8", "replace")[: size - 1]
        self._memory[start : start + size] = data.ljust(size, b"\0")


def read_all(folder: Path) -> list[Vitals]:
    """The living workers whose files are in `folder`, by name.

    Raises:
        PermissionError: the folder or a file is another user's.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [vitals for name in names if (vitals := _read(folder / name)) is not None]


def _read(path: Path) -> Vitals | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if not _is_held(descriptor):
            return None
        data = os.pread(descriptor, _SIZE, 0)
    finally:
        os.close(descriptor)
    if len(data) < _SIZE or not data.startswith(_MAGIC):
        return None
    _magic, pid, index, state, _pad, interval_s = _HEAD.unpack_from(data)
    loop, sweep, sweep_failed, store, store_failed, trouble = _MARKS.unpack_from(data, _MARKS_AT)
    now = time.monotonic()
    return Vitals(
        name=_text(data, "name"),
        pid=pid,
        index=index,
        state=State(state),
        sweep_interval_s=interval_s,
        loop_age_s=_age(now, loop),
        sweep_age_s=_age(now, sweep),
        store_age_s=_age(now, store),
        sweep_error=_text(data, "sweep") if sweep_failed > sweep else None,
        store_error=_text(data, "store") if store_failed > store else None,
        broker_problem=_text(data, "broker") or None,
        trouble=_text(data, "trouble") if trouble else None,
        trouble_age_s=_age(now, trouble),
    )


def _age(now: float, marked: float) -> float | None:
    return max(0.0, now - marked) if marked else None


def _text(data: bytes, which: str) -> str:
    start, size = _TEXTS[which]
    return data[start : start + size].split(b"\0", 1)[0].decode("utf-8", "replace")


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _make_private(folder: Path) -> None:
    """Make a folder of our own; in `/tmp` somebody else's may stand in its place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")


def _drop_dead(folder: Path) -> None:
    """Remove the files of workers that did not end in order."""
    for path in folder.iterdir():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            # A file that is just being made is still empty, and not locked yet.
            if os.fstat(descriptor).st_size == _SIZE and not _is_held(descriptor):
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
