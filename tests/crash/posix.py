"""What POSIX lets a disk hold after a power cut, from a log of system calls.

Nothing is durable but what was synced: of a file, its bytes at its last fsync; of a folder, its
names at its last fsync. What came later is there or not, each change by itself; bytes may also be
zeros, or end half-way. Real file systems promise more than this; none promises less.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.strace import Call

#: States of one moment up to which all are made; of more, a sample.
_ALL = 64
_SAMPLE = 24
#: Seconds since 1970: some time before the power cut.
_BEFORE_S = 1_700_000_000


class Link(bytes):
    """What a symbolic link holds: it is there with its name, whole, or not at all."""


@dataclass(eq=False, slots=True)
class File:
    """A file's bytes as they are and as they were when it was last synced."""

    current: bytes = b""
    durable: bytes = b""

    def variants(self) -> list[bytes]:
        """What its bytes may be after a power cut; the newest first."""
        now = self.current
        if now == self.durable:
            return [now]
        return list(dict.fromkeys((now, self.durable, bytes(len(now)), now[: len(now) // 2])))


@dataclass(eq=False, slots=True)
class Folder:
    """A folder's names when it was last synced, and the changes since."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def names(self, made: Sequence[bool] | None = None) -> dict[str, File | Folder]:
        """The names after those of the changes that were made; None: after all."""
        found: dict[str, File | Folder | None] = dict(self.durable)
        for number, change in enumerate(self.changes):
            if made is None or made[number]:
                found.update(change)
        return {name: item for name, item in found.items() if item is not None}


#: A tree of files by path; None: a folder.
State = dict[str, bytes | None]


class Disk:
    """The folder `root` as a process sees it, and as a power cut may leave it."""

    def __init__(self, root: Path, ignored: Sequence[str] = ()) -> None:
        """Start from what is there; all of it is durable.

        Args:
            ignored: files whose name begins so are left out: what is derived is not judged.
        """
        self._root = root
        self._ignored = tuple(ignored)
        self._top = self._load(root)
        self._open: dict[tuple[int, int], File | Folder | None] = {}
        self._folder_of: dict[int, str] = {}

    def _load(self, path: Path) -> Folder:
        folder = Folder()
        for entry in os.scandir(path):
            if entry.name.startswith(self._ignored):
                continue
            if entry.is_symlink():
                item: File | Folder = File(*[Link(os.fsencode(os.readlink(entry.path)))] * 2)
            elif entry.is_dir():
                item = self._load(Path(entry.path))
            else:
                item = File(*[Path(entry.path).read_bytes()] * 2)
            folder.durable[entry.name] = item
        return folder

    def apply(self, call: Call) -> bool:
        """Take a call into account; whether it changed or synced anything below the root."""
        name = {"openat": "open", "creat": "open"}.get(call.name, call.name)
        if name.startswith(("rename", "link", "unlink", "mkdir")):
            name = name.removesuffix("2").removesuffix("at")
        if name == "open":
            return self._opened(call)
        if name == "chdir":
            (self._folder_of[call.pid],) = self._paths(call)
            return False
        if name in ("write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate"):
            item = self._open.get((call.pid, call.descriptor))
            if item is None:
                return False
            if name in ("fsync", "fdatasync"):
                if isinstance(item, File):
                    item.durable = item.current
                else:
                    item.durable, item.changes = item.names(), []
            elif isinstance(item, File):
                self._write(item, call, name)
            return True
        if name in ("symlink", "symlinkat"):
            return self._linked(call.strings[0], self._paths(call)[-1])
        places = [self._place(path) for path in self._paths(call)]
        if not places or any(place is None for place in places):
            assert all(place is None for place in places), call
            return False
        folder, base = places[0] or (self._top, "")
        if name == "mkdir":
            folder.changes.append({base: Folder()})
        elif name in ("unlink", "rmdir"):
            folder.changes.append({base: None})
        else:
            into, new_base = places[1] or (self._top, "")
            item = folder.names()[base]
            if name == "link":
                into.changes.append({new_base: item})
            elif into is folder:
                folder.changes.append({base: None, new_base: item})
            else:
                folder.changes.append({base: None})
                into.changes.append({new_base: item})
        return True

    def _linked(self, target: bytes, link: str) -> bool:
        place = self._place(link)
        if place is not None:
            folder, base = place
            folder.changes.append({base: File(Link(target), Link(target))})
        return place is not None

    def _opened(self, call: Call) -> bool:
        key = (call.pid, call.result)
        self._open[key] = None
        place = self._place(self._paths(call)[0])
        if place is None:
            return False
        folder, base = place
        item = folder.names().get(base) if base else self._top
        changed = False
        if item is None and "O_CREAT" in call.arguments:
            item = File()
            folder.changes.append({base: item})
            changed = True
        if isinstance(item, File) and "O_TRUNC" in call.arguments and item.current:
            item.current = b""
            changed = True
        self._open[key] = item
        return changed

    def _write(self, item: File, call: Call, name: str) -> None:
        if name in ("write", "writev"):
            # Descriptors of the store only ever append.
            item.current += b"".join(call.strings)[: call.result]
            return
        offset = int(call.arguments.rsplit(",", 1)[1])
        if name == "ftruncate":
            item.current = item.current[:offset].ljust(offset, b"\0")
            return
        data = call.strings[0][: call.result]
        now = item.current.ljust(offset, b"\0")
        item.current = now[:offset] + data + now[offset + len(data) :]

    def _paths(self, call: Call) -> list[str]:
        # Git goes into the repository and names its files from there.
        return call.paths(self._folder_of.get(call.pid, "/"))

    def _place(self, path: str) -> tuple[Folder, str] | None:
        """The folder and the name of a path below the root; None: it is elsewhere or ignored."""
        root = str(self._root)
        if path == root:
            return self._top, ""
        if not path.startswith(root + "/"):
            return None
        parts = path[len(root) + 1 :].split("/")
        if parts[-1].startswith(self._ignored):
            return None
        folder = self._top
        for part in parts[:-1]:
            found = folder.names().get(part)
            if not isinstance(found, Folder):
                return None
            folder = found
        return folder, parts[-1]

    def states(self, chance: random.Random) -> Iterator[State]:
        """What a power cut at this moment may leave: all of it, or a sample; some of it twice.

        The first is all that was done, the second nothing that was not synced.
        """
        items: list[tuple[File | Folder, int]] = []
        ways: list[range] = []
        self._uncertain(self._top, items, ways, set())
        count = 1
        for way in ways:
            count *= len(way)
        choices = self._sample(ways, chance)
        if count <= _ALL:
            choices = itertools.chain(itertools.islice(choices, 2), itertools.product(*ways))
        for choice in choices:
            chosen = {
                (id(item), number): c for (item, number), c in zip(items, choice, strict=True)
            }
            state: State = {}
            self._build(self._top, "", chosen, state)
            yield state

    @staticmethod
    def _sample(ways: Sequence[range], chance: random.Random) -> Iterator[tuple[int, ...]]:
        new = tuple(0 for _ in ways)
        old = tuple(min(1, len(way) - 1) for way in ways)
        yield new
        yield old
        for place, way in enumerate(ways):
            for other in way:
                yield (*new[:place], other, *new[place + 1 :])
            yield (*old[:place], 0, *old[place + 1 :])
        for _ in range(_SAMPLE):
            yield tuple(chance.choice(way) for way in ways)

    def _uncertain(
        self,
        folder: Folder,
        items: list[tuple[File | Folder, int]],
        ways: list[range],
        seen: set[int],
    ) -> None:
        if id(folder) in seen:
            return
        seen.add(id(folder))
        reachable = dict.fromkeys(folder.durable.values())
        for number, change in enumerate(folder.changes):
            items.append((folder, number))
            ways.append(range(2))
            reachable.update(dict.fromkeys(item for item in change.values() if item is not None))
        for item in reachable:
            if isinstance(item, Folder):
                self._uncertain(item, items, ways, seen)
            elif id(item) not in seen:
                seen.add(id(item))
                if len(item.variants()) > 1:
                    items.append((item, 0))
                    ways.append(range(len(item.variants())))

    def _build(
        self, folder: Folder, path: str, chosen: dict[tuple[int, int], int], state: State
    ) -> None:
        made = [chosen[id(folder), number] == 0 for number in range(len(folder.changes))]
        for name, item in folder.names(made).items():
            if isinstance(item, Folder):
                state[f"{path}{name}"] = None
                self._build(item, f"{path}{name}/", chosen, state)
            else:
                state[f"{path}{name}"] = item.variants()[chosen.get((id(item), 0), 0)]


def digest_of(state: State) -> bytes:
    """The same for states that are the same."""
    digest = hashlib.blake2b(digest_size=16)
    for path, data in sorted(state.items()):
        held = b"" if data is None else data
        digest.update(
            f"{path}\0{type(data).__name__} {len(held)}\0".encode("utf-8", "surrogateescape")
        )
        digest.update(held)
    return digest.digest()


def materialise(state: State, where: Path) -> None:
    """Make the state below `where`, a folder that has never been used."""
    where.mkdir()
    for path, data in state.items():
        target = where / path
        if data is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Link):
                target.symlink_to(os.fsdecode(data))
            else:
                target.write_bytes(data)
            if target.suffix == ".lock":
                # A machine takes longer to start again than any git holds a lock.
                os.utime(target, (_BEFORE_S, _BEFORE_S))
